"""Airflow's own records: what `airflow db clean` is asked for and believed, and which log files go."""

from __future__ import annotations

import os
import time

import pytest

from jobs.airflow import cleanup
from jobs.airflow.sites.housekeeping import clean
from tests.support.airflow.bench import AirflowBench

SAID = """Checking table task_instance
Found 0 rows meeting deletion criteria.

Checking table dag_run
Found 12 rows meeting deletion criteria.
Performing Delete (batch 1, max 10000 rows)...
"""


@pytest.fixture
def airflow(tmp_path, monkeypatch):
    """An `airflow` that notes how it was called, and says what the test wants: a function to say so."""
    program = tmp_path / "bin" / "airflow"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for name in cleanup.BLOCKED:
        monkeypatch.setenv(name, "airflow-db-not-allowed:///")

    def says(words: str, code: int = 0):
        (tmp_path / "said").write_text(words)
        program.write_text(
            f'#!/bin/bash\necho "$@" >> {tmp_path}/calls; env >> {tmp_path}/env; cat {tmp_path}/said; exit {code}\n'
        )
        program.chmod(0o755)
        return lambda: (tmp_path / "calls").read_text().splitlines()

    says.env = lambda: (tmp_path / "env").read_text()
    return says


def test_the_command_has_the_database_and_the_tables_that_may_go_by_age(airflow):
    calls = airflow(SAID)
    assert cleanup.clean_database(["reconcile", "catalogue"], 90, dry_run=True) == {"dag_run": 24}
    of_dags, of_airflow = calls()
    assert "--tables dag_run,dag_version --skip-archive" in of_dags and "--dag-ids reconcile,catalogue" in of_dags
    assert "--dag-ids" not in of_airflow and all("--dry-run" in line and "--yes" not in line for line in calls())
    tables = {name for line in calls() for name in line.split("--tables ")[1].split()[0].split(",")}
    assert not {"trigger", "dag", "task_instance"} & tables, "of these age says nothing"
    assert "not-allowed" not in airflow.env()
    cleanup.clean_database(["reconcile"], 90, dry_run=False)
    assert "--yes" in calls()[-1] and "--dry-run" not in calls()[-1]


def test_without_an_idle_dag_no_runs_are_cleaned(airflow):
    calls = airflow(SAID)
    cleanup.clean_database([], 90, dry_run=False)
    (line,) = calls()
    assert "dag_run" not in line


def test_a_table_that_was_left_out_is_an_error_but_the_one_without_dags(airflow):
    left = "The following tables were not cleaned due to errors: {}. Check the logs above for details.\n"
    airflow(SAID + left.format("['deadline', 'dag_run']"))
    with pytest.raises(cleanup.CleaningFailed, match="left out dag_run"):
        cleanup.clean_database(["reconcile"], 90, dry_run=False)
    airflow("sqlalchemy.exc.OperationalError: no such host", code=1)
    with pytest.raises(cleanup.CleaningFailed, match="ended with 1: .*no such host; on the machine where .*db clean"):
        cleanup.clean_database(["reconcile"], 90, dry_run=False)


def test_logs_that_nobody_wrote_to_go(tmp_path):
    made = {}
    for name, days in (("dag_id=a/run_id=old/task_id=t", 100), ("dag_id=a/run_id=new/task_id=t", 10),
                       ("dag_processor/2026-01-01", 100), ("dag_processor/2026-02-01", 10)):  # fmt: skip
        made[name] = tmp_path / name / "attempt=1.log"
        made[name].parent.mkdir(parents=True)
        made[name].write_text("x" * 100)
        os.utime(made[name], (time.time() - 86400 * days,) * 2)
    late = tmp_path / "dag_id=a/run_id=waits/task_id=t"  # an old run whose job still writes
    late.mkdir(parents=True)
    for name, days in (("attempt=1.log", 100), ("attempt=2.log", 1)):
        (late / name).write_text("x")
        os.utime(late / name, (time.time() - 86400 * days,) * 2)
    before = time.time() - 86400 * 90
    assert cleanup.clean_logs(tmp_path, before, dry_run=True) == (2, 200) and all(p.exists() for p in made.values())
    assert cleanup.clean_logs(tmp_path, before, dry_run=False) == (2, 200)
    assert [name for name, path in made.items() if path.exists()] == [
        "dag_id=a/run_id=new/task_id=t", "dag_processor/2026-02-01",
    ] and late.exists()  # fmt: skip
    assert not list(tmp_path.rglob("*.trash")) and cleanup.clean_logs(tmp_path, before, dry_run=False) == (0, 0)


class Client:
    """A site that has something to clean."""

    name = "site"

    def __init__(self):
        self.asked = []

    def run(self, *arguments, timeout):
        self.asked.append(arguments)
        one = {"kind": "caches", "path": "/r/cache", "bytes": 10, "files": 2, "reason": "old"}
        merges = [{"folder": "/r/data/0123", "segments": 30, "become": 1}]
        waste = [{"path": "/r/jobs/key", "bytes": 5, "reason": "over"}]
        return {"removable": [one, one], "merges": merges, "in_use": [], "failed": ["/r: no"], "waste": waste}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_site_is_cleaned_and_pruned(dry_run, capsys):
    client = Client()
    found = clean(client, {"forecast": 30, "cache": 90.5}, 20, dry_run=dry_run)
    yes = () if dry_run else ("--yes",)
    assert client.asked == [("clean", "--forecast-days=30", "--cache-days=90.5", *yes), ("prune", "--days=20", *yes)]
    assert found == {
        "site": "site",
        "bytes": 25,
        "found": {"caches": 2, "merged": 30, "pruned": 1},
        "failed": ["/r: no"],
    }
    said = capsys.readouterr().out
    assert "/r/cache: 2 files, 10 bytes, old" in said and ("would be removed" in said) == dry_run


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_cleans_a_real_airflow(bench: AirflowBench) -> None:
    """Through a real task, whose environment has no database: rows are counted, and the live run stays."""
    bench.api.unpause("housekeeping")
    run = bench.trigger("housekeeping", {"dry_run": False, "airflow_days": 7})
    assert bench.api.wait("housekeeping", run, 600) == "success"
    said = bench.log(bench.task("housekeeping", run, "clean_airflow"))
    assert "gone: rows {" in said and "left for the next time" in said, said
    logs = [bench.log(one) for one in bench.api.task_instances("housekeeping", run) if one["task_id"] == "clean_site"]
    assert any("bench: 0.0 MiB removed" in log for log in logs), logs
