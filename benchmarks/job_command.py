"""What the job command costs: a submission on a real Slurm, and the state of 500 jobs.

Starts a Slurm of its own (scripts/packages.sh slurm installs it) and stops it again. Prints Python's own start, a
submission beyond that, and how long `graphufs-jobs status` takes and how often it calls Slurm for 1 and for 500 jobs.

    python benchmarks/job_command.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.job.folder import JobFolder

TOP = Path(__file__).parents[1]
CLUSTER = [sys.executable, "-m", "devstack.slurm.cluster"]
MANY = 500
COUNTED = ("squeue", "sacct")


def timed(command: list[str], environment: dict[str, str], repeats: int = 1) -> float:
    """The median wall time of a command."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def counting(folder: Path) -> None:
    """Scripts before Slurm's commands that count their calls."""
    folder.mkdir()
    for command in COUNTED:
        real = subprocess.run(["which", command], check=True, capture_output=True, text=True).stdout.strip()
        script = folder / command
        script.write_text(f'#!/bin/sh\necho {command} >> {folder}/calls\nexec {real} "$@"\n')
        script.chmod(0o755)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory(prefix="graphufs-b-") as temporary:
        base, root, shims = (Path(temporary) / name for name in ("c", "root", "bin"))
        subprocess.run([*CLUSTER, "up", "--base", str(base)], cwd=TOP, check=True)
        try:
            conf = subprocess.run(
                [*CLUSTER, "env", "--base", str(base)], cwd=TOP, capture_output=True, text=True, check=True
            )
            counting(shims)
            environment = {**os.environ, "SLURM_CONF": conf.stdout.strip().partition("=")[2]}
            environment["PATH"] = f"{shims}{os.pathsep}{environment['PATH']}"
            return measure(root, shims / "calls", environment, repeats)
        finally:
            subprocess.run([*CLUSTER, "down", "--purge", "--base", str(base)], cwd=TOP, check=True)


def measure(root: Path, calls: Path, environment: dict[str, str], repeats: int) -> int:
    place = ["--site", "testcluster", "--root", str(root), "--json"]
    jobs = [sys.executable, "-m", "jobs"]
    started = timed([sys.executable, "-c", "pass"], environment, repeats)
    imported = timed([sys.executable, "-c", "import jobs.cli.main"], environment, repeats)
    later = ["--resource", "sbatch.begin=now+1hour"]
    submitted = [
        timed([*jobs, "submit", "prepare", "tiny", "--key", f"job-{index}", *later, *place], environment)
        for index in range(repeats)
    ]
    one = timed([*jobs, "status", "job-0", *place], environment, repeats)
    origin = JobFolder(root, "job-0")
    attempt = origin.attempt()
    assert attempt is not None
    for index in range(repeats, MANY):
        copy = JobFolder(root, f"job-{index}")
        copy.write_intent(origin.require(), origin.experiment())
        copy.write_attempt(attempt)
    calls.write_text("")
    many = timed([*jobs, "list", *place], environment)
    called = calls.read_text().split()
    table = Table(title="The job command", title_justify="left")
    for name in ("what", "ms"):
        table.add_column(name, justify="right" if name == "ms" else "left")
    submit = statistics.median(submitted)
    for what, seconds in (
        ("Python's start", started),
        ("the same and importing the command", imported),
        ("submit, in all", submit),
        ("submit, beyond Python's start", submit - started),
        ("status of 1 job", one),
        (f"status of {MANY} jobs", many),
    ):
        table.add_row(what, f"{1e3 * seconds:,.0f}")
    Console().print(table)
    print(f"Calls for {MANY} jobs: " + json.dumps({name: called.count(name) for name in COUNTED}))
    print("Load: " + ", ".join(f"{value:.1f}" for value in os.getloadavg()))
    return 0 if submit - started <= 1.0 and all(called.count(name) == 1 for name in COUNTED) else 1


if __name__ == "__main__":
    sys.exit(main())
