"""The real Airflow that the tests start: it works, it is alone with itself, and it goes away again."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from devstack.airflow import postgresql, settings
from jobs.scheduler.processes import process_row
from tests.airflow import MODULE, airflow_api, airflow_stack, running, skip_without_airflow
from tests.support.private import TOP, command_lines, listening_addresses, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.long]

Api, ApiError, Stack = airflow_api.Api, airflow_api.ApiError, airflow_stack.Stack

HELLO = """
import os, subprocess, time
from airflow.sdk import Param, dag, task

@dag(schedule=None, params={"whom": Param("nobody", type="string", maxLength=20), "seconds": 0})
def hello():
    @task
    def greet(params=None):
        print("greetings to", params["whom"])
        print("this is", os.environ["AIRFLOW__GRAPHUFS__INSTANCE"])
        if params["seconds"]:
            subprocess.Popen(["sleep", str(params["seconds"])], start_new_session=True)
            theirs = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
            subprocess.Popen(["sh", "-c", f"sleep {params['seconds'] + 1} &"], start_new_session=True, env=theirs)
            time.sleep(params["seconds"])
    greet()

hello()
"""


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    dags = tmp_path_factory.mktemp("dags")
    (dags / "hello.py").write_text(HELLO)
    connections = {"hpc": '{"conn_type": "ssh", "host": "elsewhere", "password": "unspoken"}'}
    with pytest.MonkeyPatch.context() as surrounding:  # what a user's shell may have set
        for name in ("AIRFLOW__CORE__EXECUTOR", "PGHOST", "PYTHONPATH"):
            surrounding.setenv(name, "/elsewhere")
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            surrounding.setenv(name, "http://127.0.0.1:9")
        with running(request, dags=str(dags), connections=connections, pools={"cluster": 3, "here": 2}) as stack:
            yield stack


@pytest.fixture(scope="module")
def api(stack: Stack) -> Api:
    """An administrator's session, with the DAG there and let run."""
    api = Api(stack.url, "admin", stack.passwords["admin"])

    def there() -> bool:
        with suppress(ApiError):
            api.unpause("hello")
            return True
        return False

    wait_for(there)
    return api


def test_a_dag_runs_through_the_public_api(stack: Stack, api: Api) -> None:
    assert list(stack.processes) == ["postgresql", *airflow_stack.COMPONENTS]
    assert all(map(stack.alive, stack.processes))
    run = api.trigger("hello", {"whom": "everyone"})
    seen = []
    assert api.wait("hello", run, 120, tell=lambda task, state: seen.append((task, state))) == "success"
    assert seen[-1] == ("greet", "success")
    assert [(task["task_id"], task["state"]) for task in api.task_instances("hello", run)] == [("greet", "success")]
    assert any("greetings to everyone" in line["event"] for line in api.log("hello", run, "greet"))
    assert api.state("hello", run) == "success"


def test_it_has_its_pools_and_a_name_of_its_own(stack: Stack, api: Api) -> None:
    pools = {pool["name"]: pool["slots"] for pool in api.request("GET", "/pools")["pools"]}
    assert pools.items() >= {"cluster": 3, "here": 2}.items()
    run = api.trigger("hello")
    assert api.wait("hello", run, 120) == "success"
    said = [line["event"] for line in api.log("hello", run, "greet")]
    assert f"this is {stack.instance}" in said and Stack(stack.base).instance == stack.instance
    assert Stack(stack.base / "another").instance != stack.instance


def test_what_the_api_refuses_says_why(stack: Stack, api: Api) -> None:
    with pytest.raises(ApiError, match="400: .*(long|maxLength)"):
        api.trigger("hello", {"whom": "x" * 21})
    with pytest.raises(ApiError, match="404: .*nothing"):
        api.state("nothing", "run")
    with pytest.raises(ApiError, match="401"):
        Api(stack.url, "admin", stack.passwords["op"]).token()


def test_roles_are_told_apart(stack: Stack, api: Api) -> None:
    viewer, op = (Api(stack.url, user, stack.passwords[user]) for user in ("viewer", "op"))
    run = op.trigger("hello")
    assert viewer.state("hello", run) in ("queued", "running", "success")
    with pytest.raises(ApiError, match="403"):
        viewer.trigger("hello")


def test_nothing_of_it_can_be_reached_from_outside(stack: Stack, api: Api) -> None:
    with socket.create_server(("0.0.0.0", 0)):  # that such a one would be seen
        assert "0.0.0.0" in listening_addresses({os.getpid()})
    pids = stack.remains()
    assert len(pids) > len(stack.processes)
    assert listening_addresses(pids) == {"127.0.0.1"}


def test_only_its_owner_can_read_its_files(stack: Stack, api: Api) -> None:
    top = stat.S_IMODE(stack.base.stat().st_mode)
    assert top == 0o700 or (top == 0o710 and os.geteuid() == 0)  # PostgreSQL's user passes, and sees nothing
    for path in stack.base.rglob("*"):
        with suppress(FileNotFoundError):
            if not path.is_symlink():
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert json.loads((stack.base / "passwords.json").read_text()).keys() == {"admin", "op", "viewer"}


def test_secrets_are_in_no_command_line_log_or_environment_that_is_printed(stack: Stack, api: Api) -> None:
    hidden = [*stack.secrets.values(), "unspoken"]
    assert len(stack.secrets["jwt"]) >= 64 and len(set(hidden)) == len(hidden) == 8
    run = api.trigger("hello")
    text = ""
    while api.state("hello", run) not in airflow_api.FINISHED:
        text += command_lines()
    assert "postgres: airflow" in text and "scheduler" in text  # that what is looked for would be seen
    for folder in (stack.log, stack.home / "logs"):
        text += "".join(path.read_text(errors="replace") for path in folder.rglob("*.log"))
    assert not [name for name, value in stack.secrets.items() if value in text] and "unspoken" not in text
    printed = subprocess.run(
        [sys.executable, "-m", MODULE, "env", "--base", stack.base], cwd=TOP, capture_output=True, text=True
    )
    assert printed.stdout.count("export ") >= 4
    assert not [value for value in stack.secrets.values() if value in printed.stdout]


def test_a_part_is_found_again_stopped_and_started_and_a_second_triggerer_too(stack: Stack, api: Api) -> None:
    again = Stack(stack.base)
    assert again.url == stack.url and all(map(again.alive, again.processes))
    stack.start("triggerer-2")
    assert stack.alive("triggerer") and stack.alive("triggerer-2")
    stack.stop("triggerer", signal.SIGKILL)
    assert not stack.alive("triggerer") and stack.alive("triggerer-2")
    stack.start("triggerer")
    with pytest.raises(airflow_stack.StackError, match="runs already"):
        stack.start("triggerer")
    with pytest.raises(airflow_stack.StackError, match="there is no gunner"):
        stack.start("gunner")
    with pytest.raises(airflow_stack.StackError, match="is up already"):
        Stack(stack.base).up()
    pids = subprocess.run(
        [sys.executable, "-m", MODULE, "pids", "--base", stack.base], cwd=TOP, capture_output=True, text=True
    )
    assert [line.split()[0::2] for line in pids.stdout.splitlines()] == [[name, "alive"] for name in stack.processes]


# The last one: the module's stack is down after it.
def test_down_leaves_nothing_not_even_what_a_task_has_started(stack: Stack, api: Api) -> None:
    api.trigger("hello", {"seconds": 1234})
    wait_for(lambda: "sleep\x001235" in command_lines())
    before = stack.remains()
    jobs = before - stack.remains(jobs=False)
    assert [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in jobs] == [b"sleep\x001235\x00"]
    stack.signal("triggerer-2", signal.SIGSTOP)
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "down", "--base", stack.base, "--purge"], cwd=TOP, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert not stack.base.exists() and "sleep\x00123" not in command_lines()
    assert not [pid for pid in before if process_row(pid)]


def test_without_postgresql_it_runs_on_sqlite(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "programs", lambda: None)
    (tmp_path / "hello.py").write_text(HELLO)
    with running(request, dags=str(tmp_path), database="sqlite", pools={}) as stack:
        assert list(stack.processes) == list(airflow_stack.COMPONENTS)
        api = stack.api
        wait_for(lambda: api.paused("hello") is not None)
        api.unpause("hello")
        runs = [api.trigger("hello") for _ in range(4)]
        assert [api.wait("hello", run, 120) for run in runs] == ["success"] * 4


def test_what_fails_half_way_is_taken_down_and_names_its_log() -> None:
    skip_without_airflow()
    base = Path(tempfile.mkdtemp(prefix="graphufs-airflow-"))
    # The database is there by then, and Airflow cannot use it.
    wrong = settings.Settings(environment={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "nonsense://"})
    stack = Stack(base, wrong)
    with pytest.raises(airflow_stack.StackError, match=f"db-migrate failed; read {base}/log/db-migrate.log"):
        stack.up()
    assert not stack.remains() and "nonsense" in (base / "log" / "db-migrate.log").read_text()
    stack.down(purge=True)
    assert not base.exists()


def test_a_port_that_is_taken_is_named_and_the_folder_can_be_used_again(tmp_path: Path) -> None:
    skip_without_airflow()
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        for _ in range(2):
            with pytest.raises(airflow_stack.StackError, match=f"port {taken} is taken"):
                Stack(tmp_path / "base", settings.Settings(port=taken)).up()
    Stack(tmp_path / "base").down(purge=True)
    assert not (tmp_path / "base").exists()


def test_a_folder_of_something_else_is_neither_used_nor_removed(tmp_path: Path) -> None:
    skip_without_airflow()
    (tmp_path / "precious").touch()
    with pytest.raises(airflow_stack.StackError, match="is not empty"):
        Stack(tmp_path).up()
    Stack(tmp_path).down(purge=True)
    assert (tmp_path / "precious").exists()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "airflow_program", lambda: None)
    monkeypatch.setattr(postgresql, "programs", lambda: None)
    with pytest.raises(airflow_stack.StackError, match=r"make setup-airflow.* and .*packages\.sh postgresql"):
        Stack(tmp_path / "base").up()
    assert not (tmp_path / "base").exists()
