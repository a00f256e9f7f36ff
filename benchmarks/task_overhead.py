"""What a task of Airflow's adds to its job: to one that is done already, and to one of about a second.

Starts a private Airflow (`make setup-airflow`, scripts/packages.sh postgresql) and stops it again. Its one DAG has one
job. Each case is measured with a site whose tasks wait for new jobs at first, and with one whose tasks are deferred at
once, as all were before `control.first_wait`. The time is that from when the scheduler takes the task up to its end,
less the time in which the job worked.

    python benchmarks/task_overhead.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from devstack.airflow.api import Api
from devstack.airflow.settings import Settings
from devstack.airflow.stack import Stack
from jobs.job.folder import JobFolder

DAG = """
from airflow.sdk import DAG

from jobs.airflow.operators.job import JobOperator

with DAG(dag_id="one_job", schedule=None, params={"site": "", "key": ""}, is_paused_upon_creation=False):
    JobOperator(
        task_id="job",
        step="prepare",
        experiment="tiny",
        site="{{ params.site }}",
        key="{{ params.key }}",
        pool="default_pool",
    )
"""
SITES = {"waits at first": 10, "is deferred at once": 0}
"""What a task does, and the seconds of `first_wait` that have it do so."""
BARS = {"a job done already": 3.0, "a job of a second": 8.0}
"""Seconds that may be added, where tasks wait at first."""


def site_file(root: Path, first_wait: int) -> str:
    """A site on this machine."""
    command = shlex.quote(str(Path(sys.executable).with_name("graphufs-jobs")))
    control = f"{{command: {command}, poll_interval: 2, first_wait: {first_wait}}}"
    return f"executor: local\nroot: {root}\nlead: 30\ncontrol: {control}\n"


def seconds_of(api: Api, site: str, key: str) -> float:
    """How long a run's task takes."""
    run = api.trigger("one_job", {"site": site, "key": key})
    state = api.wait("one_job", run, every=0.2)
    (task,) = api.task_instances("one_job", run)
    if state != "success":
        raise SystemExit(f"the task of {key} {state}; its log: {api.log('one_job', run, 'job')[-5:]}")
    began, ended = (datetime.fromisoformat(task[name]) for name in ("scheduled_when", "end_date"))
    return (ended - began).total_seconds()


def worked(job: JobFolder) -> float:
    """How long a job worked, from its claim to its proof."""
    claim = next(job.folder(1).glob("claim*"))
    return (job.path / "result.json").stat().st_mtime - claim.stat().st_mtime


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="graphufs-overhead-") as temporary:
        root = Path(temporary, "root")
        names = {f"site{number}": first_wait for number, first_wait in enumerate(SITES.values())}
        files = {f"sites/{name}.yaml": site_file(root, first_wait) for name, first_wait in names.items()}
        base = Path(temporary, "airflow")
        environment = {"GRAPHUFS_ROOT": str(root), "GRAPHUFS_SITES": str(base / "sites")}
        settings = Settings(environment=environment, files={**files, "dags/one_job.py": DAG})
        with Stack(base, settings, print) as stack:
            api = stack.api
            while api.paused("one_job") is None:
                time.sleep(0.5)
            seconds_of(api, "site0", "makes-the-data")
            for number in range(repeats):
                for name, what in zip(names, SITES, strict=True):
                    key = f"{name}-{number}"
                    first, again = seconds_of(api, name, key), seconds_of(api, name, key)
                    found.setdefault((what, "a job of a second"), []).append(first - worked(JobFolder(root, key)))
                    found.setdefault((what, "a job done already"), []).append(again)
    table = Table(title="What a task adds to its job, in seconds", title_justify="left")
    for heading in ("a task that", *BARS):
        table.add_column(heading, justify="left" if heading == "a task that" else "right")
    medians = {case: statistics.median(values) for case, values in found.items()}
    for what in SITES:
        table.add_row(what, *(f"{medians[what, case]:.1f}" for case in BARS))
    Console().print(table)
    print("Load: " + ", ".join(f"{value:.1f}" for value in os.getloadavg()))
    return 0 if all(medians["waits at first", case] <= bar for case, bar in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
