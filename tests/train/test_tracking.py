"""Tracking in MLflow: a real local store and a real server get everything once, and a dead one disturbs nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from graphufs.config import loading
from graphufs.errors import Stopped, UserError
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.train.metrics_file import MetricsFile
from graphufs.train.tracking import tracking
from graphufs.train.tracking.content import metrics_of, parameters, withheld
from graphufs.train.tracking.follower import alike
from graphufs.train.tracking.tracking import (
    checksums,
    read_record,
    send_by_hand,
    send_rest,
    tracked,
    whole_lines,
    write_record,
)

TINY = Path(__file__).parents[2] / "experiments" / "tiny.yaml"
ON = ("training.tracking.mlflow=true",)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(tracking, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 300.0)  # a busy machine is no failure


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A store as MLflow makes it at its first run, which takes it several seconds; here two trainings begin at once."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from graphufs.config import loading as configuration\n"
        "from graphufs.storage.paths import Paths\n"
        "from graphufs.train.tracking import tracking\n"
        "tracking.FINISH_SECONDS = 300\n"
        "def layout(seed):\n"
        "    overrides = [f'training.seed={seed}', 'training.tracking={mlflow: true, experiment: first}']\n"
        "    return Paths(configuration.load(sys.argv[1], overrides), Path(sys.argv[2]))\n"
        "with tracking.tracked(layout(1)) as one, tracking.tracked(layout(2)) as other:\n"
        "    pass\n"
        "assert one == other == [], (one, other)\n"
    )
    root = tmp_path_factory.mktemp("first")
    done = subprocess.run([sys.executable, "-c", program, str(TINY), str(root)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return root / "mlflow" / "mlflow.db"


@pytest.fixture
def root(tmp_path, database):
    (tmp_path / "mlflow").mkdir()
    shutil.copy(database, tmp_path / "mlflow")
    return tmp_path


KILLED = (
    "import os, sys\n"
    "from pathlib import Path\n"
    "from graphufs.config import loading as configuration\n"
    "from graphufs.storage.paths import Paths\n"
    "from graphufs.train.metrics_file import MetricsFile\n"
    "from graphufs.train.tracking.tracking import tracked\n"
    "layout = Paths(configuration.load(sys.argv[1], ['training.tracking.mlflow=true']), Path(sys.argv[2]))\n"
    "file = MetricsFile(layout.metrics, 0)\n"
    "with tracked(layout):\n"
    "    file.write('update', 10, {'loss': 10.5})\n"
    "    os.kill(os.getpid(), 9)\n"
)
"""A training that is killed after one line of metrics."""


def layout_in(root, *overrides):
    return Paths(loading.load(TINY, [*ON, *overrides]), root)


def write(file, *updates, loss=0.5):
    for update in updates:
        values = {"stage": "one-step", "loss": loss + update, "loss_by_variable": {"tmp": 2.0 * update}}
        file.write("update", update, values)


def stored(root, query, *values):
    with closing(sqlite3.connect(root / "mlflow" / "mlflow.db")) as database:
        return database.execute(query, values).fetchall()


def losses(root):
    """(step, value) of the loss in the order sent, of the runs that are not the fixture's."""
    return stored(
        root,
        "select step, value from metrics join runs using (run_uuid) join experiments using (experiment_id) "
        "where key = 'loss' and experiments.name = 'tiny' order by timestamp, step",
    )


def runs(root):
    return stored(
        root,
        "select run_uuid, status from runs join experiments using (experiment_id) where experiments.name = 'tiny'",
    )


def until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    assert condition()


def test_names_of_metrics():
    line = {"event": "update", "update": 7, "stage": "a", "loss": 1.5, "error_by_level": {"tmp": [1, 2]}, "bad": None}
    assert metrics_of(json.dumps(line)) == {"loss": 1.5, "error_by_level/tmp/0": 1.0, "error_by_level/tmp/1": 2.0}
    scores = {"event": "forecasts", "update": 7, "score": 0.5, "rmse": {"t (2 m)": {"24h": float("nan")}}}
    found = metrics_of(json.dumps(scores))
    assert found.pop("forecasts/score") == 0.5 and list(found) == ["forecasts/rmse/t _2 m_/24h"]
    assert metrics_of('{"event": "note", "update": 3, "text": "a"}') == {"note": 1.0}
    assert metrics_of("torn") == metrics_of("[1]") == metrics_of('{"loss": 1}') == {}


def test_parameters_are_flat_and_hold_no_secrets():
    experiment = loading.load(
        TINY,
        [
            "data.source.url=/home/someone/stores/fv3.zarr",
            "data.source.storage_options={key: secret}",
            "normalization.dask=tcp://machine:8786",
            "normalization.url=https://someone:secret@place/folder?token=secret",
        ],
    )
    flat = parameters(withheld(experiment.model_dump(mode="json")))
    assert flat["training.stages.0.rollout"] == "1" and flat["data.time_step"] == "6h"
    assert json.loads(flat["data.targets"]) == list(experiment.data.targets)
    assert flat["data.source.url"] == "fv3.zarr" and flat["normalization.url"] == "https://place/folder"
    assert not [text for text in flat.values() if "secret" in text or "someone" in text or "machine" in text]
    assert parameters({"a": {"b": "x" * 9999, "c": {}, "d": None}}) == {"a.b": "x" * 500, "a.c": "{}", "a.d": "null"}


def test_following_a_file_whose_end_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sent = []

    def send(count):
        lines = whole_lines(path)
        same = alike(checksums(lines), sent)
        sent[same:] = checksums(lines[same : same + count])
        return lines[same:]

    assert send(9) == []
    path.write_bytes(b"a\nb\nc\nto")
    assert send(3) == [b"a", b"b", b"c"]
    with open(path, "ab") as file:
        file.write(b"rn\nd\n")
    assert send(2) == [b"torn", b"d"] and send(9) == []
    path.write_bytes(b"a\nb\nx\ny\nz\nu\n")  # rolled back to b, then longer than before
    assert send(1) == [b"x", b"y", b"z", b"u"]
    path.write_bytes(b"a\n")
    assert send(9) == []
    path.write_bytes(b"a\nb\n")
    assert send(9) == [b"b"]


def test_nothing_happens_where_tracking_is_off(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("a process was started"))
    paths = Paths(loading.load(TINY), tmp_path)
    with tracked(paths) as warnings:
        pass
    assert warnings == send_rest(paths) == [] and list(tmp_path.iterdir()) == []


def test_asking_for_mlflow_where_it_is_not_installed_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"mlflow cannot be imported; install .*graphufs\[tracking\]"):
        with tracked(layout_in(tmp_path)):
            pass


def test_the_local_store_gets_everything_once_and_a_resumed_training_is_the_same_run(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_PARENT_RUN_ID", "0123456789abcdef")
    paths = layout_in(root, "data.source.storage_options={key: a-secret}", "training.average=0.99")
    file = MetricsFile(paths.metrics, 0)
    with pytest.raises(Stopped), tracked(paths) as warnings:
        write(file, 10, 20)
        file.write("validation", 20, {"loss": 0.25})
        write(file, 30)
        raise Stopped("stopped")
    assert warnings == []
    assert losses(root) == [(10, 10.5), (20, 20.5), (30, 30.5)]
    assert [status for _, status in runs(root)] == ["KILLED"]

    file = MetricsFile(paths.metrics, 20)  # goes on from a checkpoint after update 20
    with tracked(paths) as warnings:
        write(file, 30, 40, loss=0.0)
        until(lambda: len(losses(root)) == 5)
        file = MetricsFile(paths.metrics, 30)  # and later back to one after update 30
        file.write("rollback", 30, {"reason": "bad", "rate_factor": 0.5})
        write(file, 40, loss=1.0)
    assert warnings == []
    sent_twice = [(30, 30.0), (40, 40.0)]
    assert losses(root) == [(10, 10.5), (20, 20.5), (30, 30.5), *sent_twice, (40, 41.0)]
    ((run, status),) = runs(root)
    assert status == "FINISHED" and send_rest(paths) == []

    metrics = dict(stored(root, "select key, value from latest_metrics where run_uuid = ?", run))
    assert set(metrics) == {"loss", "loss_by_variable/tmp", "validation/loss", "rollback/rate_factor"}
    flat = dict(stored(root, "select key, value from params where run_uuid = ?", run))
    assert flat["training.average"] == "0.99" and flat["training.stages.0.rollout"] == "1"
    tags = dict(stored(root, "select key, value from tags where run_uuid = ?", run))
    assert tags["mlflow.parentRunId"] == "0123456789abcdef" and tags["hash.run"] == paths.hashes["run"]
    assert tags["run_folder"] == f"runs/tiny/{paths.hashes['run']}" and "version.jax" in tags
    folder = root / "mlflow" / "artifacts" / "tiny" / run / "artifacts"
    assert (folder / "metrics.jsonl").read_bytes() == paths.metrics.read_bytes()
    assert "average: 0.99" in (folder / "experiment.yaml").read_text()
    assert_nothing_tells_who_or_where(root, paths)


def assert_nothing_tells_who_or_where(root, paths):
    columns = "run_uuid, name, user_id, source_name, entry_point_name, source_version"
    for row in stored(root, f"select {columns} from runs"):
        assert row[2] in (None, "", "unknown") and not any(row[3:])
    with closing(sqlite3.connect(root / "mlflow" / "mlflow.db")) as database:
        sent = "\n".join(
            line for line in database.iterdump() if ' INTO "experiments"' not in line
        )  # where artefacts lie, which nobody but this folder's database knows
    artefacts = "".join(path.read_text() for path in (root / "mlflow" / "artifacts").rglob("*") if path.is_file())
    private = {"a-secret", socket.gethostname(), str(Path.home()), str(root)} - {"/"}
    for text in private:
        found = [line for line in (sent + artefacts).splitlines() if text in line and "artifact" not in line]
        assert not found, (text, found[:3])


@pytest.mark.long
def test_a_training_that_was_killed_is_not_left_as_running_and_nothing_phones_home(root, tmp_path):
    paths = layout_in(root)
    (tmp_path / "spy").mkdir()
    talks = tmp_path / "talks"
    (tmp_path / "spy" / "sitecustomize.py").write_text(
        "import socket\n"
        "def note(name, function):\n"
        "    def noted(*arguments, **options):\n"
        f"        print(name, arguments, file=open({str(talks)!r}, 'a'))\n"
        "        return function(*arguments, **options)\n"
        "    return noted\n"
        "socket.getaddrinfo = note('look-up', socket.getaddrinfo)\n"
        "socket.create_connection = note('connection', socket.create_connection)\n"
        f"open({str(talks)!r}, 'a').close()\n"
    )
    # MLflow sends no telemetry from tests and continuous integration anyhow: that must not be why.
    environment = {
        name: value for name, value in os.environ.items() if name != "CI" and not name.startswith(("PYTEST", "GITHUB"))
    }
    environment["PYTHONPATH"] = str(tmp_path / "spy")
    result = subprocess.run([sys.executable, "-c", KILLED, str(TINY), str(root)], env=environment)
    assert result.returncode == -signal.SIGKILL
    until(lambda: [status for _, status in runs(root)] == ["KILLED"])
    assert losses(root) == [(10, 10.5)]
    until(lambda: json.loads((paths.run / "tracking.json").read_text())["status"] == "KILLED")
    assert talks.read_text() == ""


@pytest.mark.long
def test_a_server_that_refuses_disturbs_nothing_and_gets_everything_later(root, monkeypatch, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://someone:secret@127.0.0.1:{free.getsockname()[1]}"
    paths = layout_in(root)
    file = MetricsFile(paths.metrics, 0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead)
    began = time.monotonic()
    with tracked(paths) as warnings:
        write(file, 10, 20)
        assert time.monotonic() - began < 5
        said = ""
        while not said and time.monotonic() - began < 60:
            time.sleep(0.2)
            said += capfd.readouterr().err
        ended = time.monotonic()
    assert time.monotonic() - ended < 15
    assert said.count("cannot be used now: [Errno 111] Connection refused") == 1 and "secret" not in said
    (warning,) = warnings
    assert "did not get everything" in warning and "secret" not in warning
    assert capfd.readouterr().err == ""

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert send_rest(paths) == [] and losses(root) == [(10, 10.5), (20, 20.5)]
    assert [status for _, status in runs(root)] == ["FINISHED"]


def test_a_server_that_never_answers_holds_up_the_end_only_so_long(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 3.0)
    paths = layout_in(tmp_path)
    file = MetricsFile(paths.metrics, 0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with tracked(paths) as warnings:
            write(file, 10)
            silent.settimeout(60)
            connection, _ = silent.accept()  # the call is under way
            began = time.monotonic()
        assert time.monotonic() - began < 10
        connection.close()
    assert "no answer within 3 s" in warnings[0] and "metrics.jsonl" in warnings[0]


@pytest.mark.long
def test_a_follower_that_hangs_after_a_kill_lets_go_of_the_run_and_nothing_is_lost(root):
    paths = layout_in(root)
    program = KILLED.replace("os.kill(os.getpid(), 9)", "import time; time.sleep(600)").replace(
        "layout =", "import graphufs.train.tracking.tracking as module; module.FINISH_SECONDS = 1.0; layout ="
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(120)
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "600",
        }
        training = subprocess.Popen([sys.executable, "-c", program, str(TINY), str(root)], env=environment)
        connection, _ = silent.accept()
        training.kill()  # its follower is left alone with a call that hangs
        training.wait()
        file = MetricsFile(paths.metrics, 10)
        with tracked(paths) as warnings:
            write(file, 20)
        connection.close()
    assert warnings == [] and losses(root) == [(10, 10.5), (20, 20.5)]


@pytest.mark.long
def test_a_training_of_version_0_1_0_goes_on_where_its_follower_ended(root):
    paths = layout_in(root)
    file = MetricsFile(paths.metrics, 0)
    with pytest.raises(Stopped), tracked(paths):
        write(file, 10, 20)
        raise Stopped("stopped")
    record = paths.run / "tracking.json"
    ours = json.loads(record.read_text())
    before = {"owner": "0123abcd", "server": ours["server"], "run_id": ours["run_id"], "sent": 2, "status": "RUNNING"}
    record.write_text(json.dumps(before))
    file = MetricsFile(paths.metrics, 10)  # it was killed after a checkpoint at update 10
    with tracked(paths) as warnings:
        assert "owner" not in json.loads(record.read_text())  # so a follower that is left leaves the run alone
        write(file, 20, 30, loss=1.0)
    assert warnings == [] and losses(root) == [(10, 10.5), (20, 20.5), (20, 21.0), (30, 31.0)]
    assert len(runs(root)) == 1 and json.loads(record.read_text())["sent"] == 3


@pytest.mark.parametrize("orders", [('{"owner": ""}', '{"status": "FINISHED"}'), ('{"owner": ""}',), ()])
def test_a_training_of_version_0_1_0_that_starts_its_follower_is_told_to_send_later(orders):
    command = [sys.executable, "-m", "graphufs.train.mlflow_sender"]
    result = subprocess.run(command, input="".join(f"{order}\n" for order in orders), capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(orders) < 2 or "different versions" in json.loads(result.stdout)["trouble"]


@pytest.mark.long
def test_the_metrics_of_an_ended_training_are_sent_by_hand_once(root):
    paths = Paths(loading.load(TINY), root)  # not tracked
    write(MetricsFile(paths.metrics, 0), 10, 20)
    assert send_by_hand(paths) == [] and [status for _, status in runs(root)] == ["KILLED"]
    (paths.checkpoints / "00000020").mkdir(parents=True)
    (paths.checkpoints / "00000020" / "meta.json").write_text('{"update": 20, "total": 20}')
    command = [sys.executable, "-m", "graphufs.cli.main", "track", str(TINY), "--root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert losses(root) == [(10, 10.5), (20, 20.5)]
    ((run, status),) = runs(root)
    assert status == "FINISHED"
    artefacts = root / "mlflow" / "artifacts" / "tiny" / run / "artifacts"
    assert {path.name for path in artefacts.iterdir()} == {"experiment.yaml", "meta.json", "metrics.jsonl"}

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free.getsockname()[1]}"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **dead})
    assert done.returncode == 1 and "did not get everything" in done.stderr and "Connection refused" in done.stderr


def test_by_hand_there_must_be_metrics_and_no_training_under_way(tmp_path):
    paths = Paths(loading.load(TINY), tmp_path)
    with pytest.raises(UserError, match="nothing to send; run `graphufs train` first"):
        send_by_hand(paths)
    write(MetricsFile(paths.metrics, 0), 10)
    with locked(paths.run, should_stop=lambda: False, waiting=lambda: None):
        with pytest.raises(UserError, match="is running; repeat this when it has ended"):
            send_by_hand(paths)


@pytest.fixture
def server(root, database):
    """The address of a real MLflow server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{root}/mlflow/mlflow.db", "--artifacts-destination", f"{root}/served"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(root / "server.log", "w") as log:
        process = subprocess.Popen(
            [*command, *places], env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"

    def answers():
        assert process.poll() is None, (root / "server.log").read_text()
        try:
            return urllib.request.urlopen(f"{address}/health", timeout=1).status == 200
        except OSError:
            return False

    try:
        until(answers, 120)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.long
def test_a_real_server_gets_runs_metrics_and_artefacts(root, server, monkeypatch):
    def ask(what, **question):
        data = json.dumps(question).encode() if question else None
        request = urllib.request.Request(f"{server}/api/2.0/{what}", data, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=10))

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    paths = layout_in(root, "training.tracking.experiment=my group/replay")
    file = MetricsFile(paths.metrics, 0)
    with tracked(paths) as warnings:
        write(file, *range(10, 20010, 10))  # more than one call takes
        file.write("forecasts", 20000, {"score": float("inf")})
    assert warnings == []
    experiment = ask("mlflow/experiments/get-by-name?experiment_name=my%20group%2Freplay")["experiment"]
    (run,) = ask("mlflow/runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
    assert run["info"]["status"] == "FINISHED" and run["info"]["run_name"] == f"tiny {paths.hashes['run']}"
    latest = {metric["key"]: (metric["step"], metric["value"]) for metric in run["data"]["metrics"]}
    assert latest["loss"] == (20000, 20000.5) and latest["loss_by_variable/tmp"] == (20000, 40000.0)
    history = f"mlflow/metrics/get-history?run_id={run['info']['run_id']}&metric_key=loss&max_results=25000"
    assert [metric["step"] for metric in ask(history)["metrics"]] == list(range(10, 20010, 10))
    names = [file["path"] for file in ask(f"mlflow/artifacts/list?run_id={run['info']['run_id']}")["files"]]
    assert names == ["experiment.yaml", "metrics.jsonl"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sent": 1, "lines": [1', '{"sent": "many"}', '{"checked": true}']
)
def test_a_damaged_record_is_told_and_begins_anew(content, tmp_path, caplog):
    paths = layout_in(tmp_path)
    paths.run.mkdir(parents=True, exist_ok=True)
    (paths.run / "tracking.json").write_text(content)
    assert read_record(paths) == {"lines": []} and "all is sent again" in caplog.text


def test_each_changed_byte_of_the_record_is_found(tmp_path, caplog):
    paths = layout_in(tmp_path)
    paths.run.mkdir(parents=True, exist_ok=True)
    write_record(paths, {"server": "x", "lines": [1, 2]})
    assert read_record(paths) == {"server": "x", "lines": [1, 2], "sent": 2} and not caplog.messages
    file = paths.run / "tracking.json"
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read_record(paths) == {"lines": []}
