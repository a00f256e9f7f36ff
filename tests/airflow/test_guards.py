"""What Airflow's side keeps to: one connection for all who wait, no secrets told, roles, and no form value obeyed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from urllib.parse import quote

import pytest

from devstack.airflow.postgresql import programs
from graphufs.config import loading
from tests.airflow import airflow_api
from tests.support.airflow.bench import INTERVAL, TOP, AirflowBench, eventually
from tests.support.private import command_lines

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
ApiError = airflow_api.ApiError


@pytest.mark.long
def test_twenty_who_wait_share_a_connection_and_a_command_and_hold_no_worker(bench: AirflowBench) -> None:
    assert bench.stack.settings.parallelism < 20
    run = bench.trigger("twenty")
    keys = [bench.key("twenty", run, index=index) for index in range(20)]

    def all_wait() -> bool:
        tasks = bench.api.task_instances("twenty", run)
        assert not [task for task in tasks if task["state"] in ("failed", "upstream_failed", "up_for_retry")]
        return len(tasks) == 20 and all((task["trigger"] or {}).get("triggerer_id") for task in tasks)

    def hold_no_worker() -> bool:
        pool = bench.api.request("GET", "/pools/graphufs")
        return pool["open_slots"] == pool["slots"] and pool["deferred_slots"] == 20

    eventually(all_wait, 300)
    eventually(hold_no_worker, 240)  # runs that an earlier test set off may go on beside
    time.sleep(INTERVAL)
    assert bench.live(*keys) == 20 and sum(map(bench.slurm.submissions, keys)) == 20
    logins, begun = bench.ssh.accepted(), time.time()
    other = bench.trigger("other")
    assert bench.api.wait("other", other, 240) == "success", "a worker is free"
    eventually(hold_no_worker, 120)
    eventually(lambda: time.time() - begun > 5 * INTERVAL)
    asked, seconds = [name for when, name in bench.commands() if when >= begun], time.time() - begun
    assert set(asked) == {"poll"} and 2 <= len(asked) <= seconds / (0.95 * INTERVAL) + 1, asked
    assert bench.ssh.accepted() == logins and bench.ssh.connections() == 1
    bench.api.request("PATCH", f"/dags/twenty/dagRuns/{quote(run)}", {"state": "failed"})
    eventually(lambda: not bench.live(*keys))
    states = [bench.slurm.status(key)["state"] for key in keys[::5]]
    assert states == ["CANCELLED"] * 4 and bench.ssh.accepted() == logins


def test_secrets_are_in_no_process_list_xcom_or_log(bench: AirflowBench) -> None:
    key = bench.ssh.folder / "client"
    hidden = [*bench.stack.secrets.values(), *key.read_text().splitlines()[1:-1]]
    for path in (key, bench.ssh.folder / "host"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run = bench.trigger("held")
    seen = ""
    while bench.task("held", run)["state"] != "deferred":
        seen += command_lines()
    bench.deferred("held", run)
    seen += command_lines()
    bench.release(bench.key("held", run))
    bench.until_task("held", run, "success")
    assert "sshd" in seen and "airflow" in seen
    path = f"/dags/held/dagRuns/{quote(run)}/taskInstances/job/xcomEntries"
    entries = bench.api.request("GET", path)["xcom_entries"]
    assert {"job", "job_id", "return_value"} <= {entry["key"] for entry in entries}
    seen += json.dumps([bench.api.request("GET", f"{path}/{quote(entry['key'])}") for entry in entries])
    for folder in (bench.stack.log, bench.stack.home / "logs", bench.slurm.root / "jobs"):
        seen += "".join(one.read_text(errors="replace") for one in folder.rglob("*") if one.is_file())
    assert bench.key("held", run) in seen
    assert not [number for number, secret in enumerate(hidden) if secret in seen]


def test_a_credential_in_an_experiment_or_a_form_reaches_no_run_no_xcom_and_no_log(bench: AirflowBench) -> None:
    mark = "MARKER6d0c"
    content = (TOP / "experiments" / "tiny.yaml").read_text()
    held = f"{{url: embedded, storage_options: {{key: {mark}}}}}"
    written = bench.folder / "dags" / "secretive.yaml"
    written.write_text(content.replace("{url: embedded}", held))
    run = bench.trigger("secretive")
    refused = bench.until_task("secretive", run, "failed")
    assert "storage: NAME" in bench.log(refused)
    good = {"experiment": "tiny", "site": "bench"}
    bench.api.unpause("normalization")
    for override in (f"data.source.storage_options={{key: {mark}}}", f"data.source.url=https://me:{mark}@host/x"):
        with pytest.raises(ApiError, match="400: .*overrides"):
            bench.trigger("normalization", {**good, "overrides": [override]})
    kept = dumped(bench)
    assert "dag_run" in kept and run in kept and mark not in kept
    for folder in (bench.stack.log, bench.stack.home / "logs", bench.slurm.root):
        assert not [one for one in folder.rglob("*") if one.is_file() and mark in one.read_text(errors="replace")]


def dumped(bench: AirflowBench) -> str:
    """All that Airflow's database holds, as text; but for its audit log, which keeps what was sent, refused or not."""
    host, port = "127.0.0.1", str(bench.stack.ports["postgresql"])
    dump = [str(programs() / "pg_dump"), f"--host={host}", f"--port={port}", "--username=airflow", "postgres"]
    dump.append("--exclude-table-data=log")
    env = {**os.environ, "PGPASSWORD": bench.stack.secrets["database"]}
    return subprocess.run(dump, capture_output=True, text=True, check=True, env=env).stdout


def test_a_viewer_can_change_nothing_and_an_operator_can_trigger(bench: AirflowBench) -> None:
    viewer, operator = bench.user("viewer"), bench.user("op")
    run = operator.trigger("other")
    assert viewer.state("other", run) in ("queued", "running", "success")
    for dag in ("normalization", "reconcile", "other"):
        with pytest.raises(ApiError, match="403"):
            viewer.trigger(dag)
    with pytest.raises(ApiError, match="403"):
        viewer.request("PATCH", f"/dags/other/dagRuns/{quote(run)}", {"state": "failed"})
    with pytest.raises(ApiError, match="403"):
        viewer.request("GET", "/connections")
    assert bench.api.wait("other", run, 240) == "success"


HOSTILE = ["; touch {}", "$(touch {})", "`touch {}`", "--force", "../../etc/passwd", "a\ntouch {}", "{{{{ 1/0 }}}}"]


def test_hostile_form_values_are_refused_with_the_fields_name_or_are_text(bench: AirflowBench) -> None:
    mark = bench.folder / "PWNED"
    values = [value.format(mark) for value in HOSTILE]
    good = {"experiment": "tiny", "site": "bench"}
    bench.api.unpause("normalization")
    for value in values:
        for field in ("experiment", "site"):
            with pytest.raises(ApiError, match=f"400: .*{field}"):
                bench.trigger("normalization", {**good, field: value})
        with pytest.raises(ApiError, match="400: .*overrides"):
            bench.trigger("normalization", {**good, "overrides": [value]})
        if value != "--force":
            with pytest.raises(ApiError, match="400: .*run_id"):
                body = {"logical_date": None, "dag_run_id": value, "conf": good}
                bench.api.request("POST", "/dags/normalization/dagRuns", body)
    with pytest.raises(ApiError, match="400: .*overrides"):
        bench.trigger("normalization", {**good, "overrides": [f"description=a\ntouch {mark}"]})
    outside = bench.trigger("normalization", {**good, "overrides": ["name=../../outside"]})
    text = " ".join(value.replace("\n", " ") for value in values)
    inside = "--force"  # the only one of these that Airflow takes for a run's name
    body = {"logical_date": None, "dag_run_id": inside, "conf": {**good, "overrides": [f"description={text}"]}}
    bench.api.request("POST", "/dags/normalization/dagRuns", body)
    refused = bench.until_task("normalization", outside, "failed", task="check")
    assert "name" in bench.log(refused) and "../../outside" in bench.log(refused)
    assert bench.api.wait("normalization", inside, 400) == "success"
    job = bench.slurm.job(bench.key("normalization", inside, "normalize"))
    assert loading.load(job.path / "experiment.yaml").description == text
    assert job.require().labels["run"] == inside
    assert not mark.exists() and not list(bench.slurm.root.parent.glob("outside*"))
