"""The fault matrix: what goes wrong on clusters, done to a real Slurm, and what becomes of the work.

Every row ends with at most one run of the work at a time, a true state, and arrays equal to an undisturbed run's bit
for bit where the work completes, or the last checkpoint intact where it stops. `make test-faults` prints the table.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.emulator import checkpoint
from graphufs.steps import run_step
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from jobs.submission.attempts import LATE
from tests.conftest import made_once
from tests.slurm import running, slurm_cluster
from tests.support.slurm_bench import Bench, assert_equal, experiment, final_arrays, wait_for

Cluster = slurm_cluster.Cluster
Arrays = dict[str, np.ndarray]
Undisturbed = Callable[[list[str]], Arrays]
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

STAGE = "training.stages=[{name: long, updates: %d, learning_rate: {peak: 1.0e-3}}]"
OFTEN = ["training.checkpoint_every=50", "training.validate_every=1000", "training.checkpoint_minutes=null"]
SHORT, LONG = ([STAGE % updates, *OFTEN] for updates in (450, 1600))
HALT = """
import functools, sys
import jobs.scheduler.slurm
from jobs.cli.main import main
real = jobs.scheduler.slurm.sbatch
@functools.wraps(real)
def halting(*args, **kwargs):
    if %r == "before":
        print("halted", flush=True); sys.stdin.readline()
    answer = real(*args, **kwargs)
    print("halted", flush=True); sys.stdin.readline()
    return answer
jobs.scheduler.slurm.sbatch = halting
main(sys.argv[1:])
"""
# The job's Python: it runs what `python -u -m jobs.worker.bootstrap` would, and waits before each update of a training
# while a file is there.
WAITING = """
import os, runpy, signal, sys, time
from jobs.worker.bootstrap import announcing
signal.pthread_sigmask(signal.SIG_BLOCK, {announcing()})
from graphufs.train.train_step import Program
slow, real = sys.argv.pop(1), Program.__call__
def waiting(*args):
    if os.path.exists(slow):
        time.sleep(0.5)
    return real(*args)
Program.__call__ = waiting
runpy.run_module("jobs.worker.bootstrap", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that gives a node up soon."""
    with running(request, slurmd_timeout=5, message_timeout=5) as own:
        yield own


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, normalized_root: Path) -> Undisturbed:
    """The final arrays of one of this module's two trainings, run inline: by whichever process needs them first."""

    def arrays(overrides: list[str]) -> Arrays:
        def make(root: Path) -> None:
            shutil.copytree(normalized_root, root)
            assert run_step("train", experiment(*overrides), root)["status"] == "completed"

        name = "undisturbed-" + ("short" if overrides is SHORT else "long")
        return final_arrays(experiment(*overrides), made_once(tmp_path_factory, name, make))

    return arrays


class Row:
    """One row of the matrix: a fault, and what was seen after it."""

    def __init__(self, bench: Bench, fault: str, request: pytest.FixtureRequest) -> None:
        self.bench, self.fault = bench, fault
        self.began = time.monotonic()
        self.properties = request.node.user_properties

    def ends(self, *, arrays: str = "", note: str = "") -> dict[str, Any]:
        """Look at what became of the job, hold it against the rules, and add the row to the table."""
        status, history = self.bench.status(), self.bench.history()
        starts = [segment for segment in self.bench.job().segments(status["attempt"]) if "start" in segment]
        submitted = self.bench.submissions()
        assert submitted <= status["attempt"], f"{submitted} jobs for {status['attempt']} attempts"
        owners = self.bench.job().claims(status["attempt"])
        assert len(set(owners.values())) <= 1
        state = status["state"] + (f", {status['ending'].replace('_', ' ')}" if status["ending"] else "")
        segments = f"{status['attempt']}/{len(history['segments'])}"
        seconds = f"{time.monotonic() - self.began:.0f} s"
        self.properties.append(("fault", [self.fault, state, segments, str(submitted), arrays or "-", note, seconds]))
        return {**status, "starts": len(starts), "history": history}


@pytest.fixture
def bench(cluster: Cluster, tmp_path: Path, normalized_root: Path, tiny: Experiment) -> Iterator[Bench]:
    """Prepared data of tiny and no statistics: `normalize` is a job of seconds."""
    bench = Bench(cluster, tmp_path, normalized_root, hung_after=600)
    yield bench
    cluster.command("scancel", "-u", subprocess.check_output(["id", "-un"], text=True).strip(), check=False)
    wait_for(lambda: not cluster.command("squeue", "-h"), 180)


def forget_statistics(bench: Bench) -> None:
    shutil.rmtree(bench.root / "statistics")


def statistics(of: Experiment, root: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(Paths(of, root).statistics().glob("*.zarr")):
        with xr.open_zarr(path) as dataset:
            found |= {f"{path.name}:{name}": array.values for name, array in dataset.load().variables.items()}
    assert found
    return found


def submit_normalize(bench: Bench, *options: str) -> list[str]:
    return ["submit", "normalize", "tiny", "--site", "bench", "--key", "job", *options]


def halted(bench: Bench, moment: str) -> subprocess.Popen[str]:
    """A submitter that has come to the call of sbatch."""
    process = bench.start(*submit_normalize(bench), code=HALT % moment)
    assert process.stdout is not None
    assert process.stdout.readline() == "halted\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def grow_old(bench: Bench) -> None:
    """Let the attempt seem older than any sbatch may take."""
    attempt = bench.job().attempt()
    assert attempt is not None
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - LATE - 10))
    bench.job().write_attempt(attempt, begun=begun)


def completes_as_undisturbed(bench: Bench, tiny: Experiment, normalized_root: Path) -> str:
    status = bench.until("COMPLETED")
    assert len([s for s in bench.job().segments(status["attempt"]) if "start" in s]) == 1
    assert_equal(statistics(tiny, bench.root), statistics(tiny, normalized_root))
    return "equal"


@pytest.mark.long  # the kill after it is the one that could double a job
def test_submitter_killed_just_before_sbatch(
    bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path
) -> None:
    row = Row(bench, "submitter killed just before sbatch", request)
    forget_statistics(bench)
    kill(halted(bench, "before"))
    assert bench.status()["state"] == "SUBMITTING" and bench.submissions() == 0
    early = bench.run(*submit_normalize(bench))["jobs"][0]
    assert early["state"] == "SUBMITTING" and "neither squeue nor accounting" in early["message"]
    assert bench.submissions() == 0
    grow_old(bench)
    later = bench.run(*submit_normalize(bench))["jobs"][0]
    assert (later["what"], later["attempt"]) == ("healed", 1)
    row.ends(arrays=completes_as_undisturbed(bench, tiny, normalized_root), note="not submitted again before 90 s")


@pytest.mark.long
def test_submitter_killed_during_sbatch(
    bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path
) -> None:
    row = Row(bench, "submitter killed during sbatch", request)
    forget_statistics(bench)
    bench.shim("sbatch", f'$REAL "$@" > {bench.bin}/answer; touch {bench.bin}/reached; sleep 5; cat {bench.bin}/answer')
    process = bench.start(*submit_normalize(bench))
    wait_for((bench.bin / "reached").exists)
    kill(process)
    bench.shim("sbatch", None)
    healed = bench.run(*submit_normalize(bench))["jobs"][0]
    assert (healed["what"], healed["attempt"]) == ("healed", 1)
    row.ends(arrays=completes_as_undisturbed(bench, tiny, normalized_root), note="found by its name")


def test_submitter_killed_between_sbatch_and_noting_its_answer(
    bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path
) -> None:
    """Where submitit would rename its payload: here the job finds it without the submitter."""
    row = Row(bench, "submitter killed between sbatch and payload", request)
    forget_statistics(bench)
    kill(halted(bench, "after"))
    wait_for(lambda: bench.job().result() is not None)
    assert bench.status()["state"] == "COMPLETED"
    assert bench.run(*submit_normalize(bench))["jobs"][0]["what"] == "completed already"
    row.ends(arrays=completes_as_undisturbed(bench, tiny, normalized_root), note="done without any submitter")


def test_two_submitters_at_once(
    bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path
) -> None:
    row = Row(bench, "two submitters at once", request)
    forget_statistics(bench)
    processes = [bench.start(*submit_normalize(bench, "--json")) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0])["jobs"][0]["what"] for process in processes]
    assert sorted(answers) == ["attached", "submitted"]
    row.ends(arrays=completes_as_undisturbed(bench, tiny, normalized_root), note="the second attached")


def test_the_answer_of_sbatch_lost(
    bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path
) -> None:
    row = Row(bench, "sbatch's answer lost", request)
    forget_statistics(bench)
    words = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    bench.shim("sbatch", f'$REAL "$@" > /dev/null; echo "{words}" >&2; exit 1')
    first = bench.run(*submit_normalize(bench))["jobs"][0]
    assert first["state"] == "SUBMITTING" and "Socket timed out" in first["message"]
    bench.shim("sbatch", None)
    # attached where the job has begun by then, and has said itself which it is
    assert bench.run(*submit_normalize(bench))["jobs"][0]["what"] in ("healed", "attached", "completed already")
    row.ends(arrays=completes_as_undisturbed(bench, tiny, normalized_root), note="found by its name")


@pytest.mark.long
def test_the_controller_down_for_a_minute_at_submit(
    bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path
) -> None:
    row = Row(bench, "slurmctld down for a minute at submit", request)
    forget_statistics(bench)
    bench.cluster.stop("slurmctld")
    try:
        waiter = bench.start(*submit_normalize(bench, "--wait", "--json"))
        time.sleep(60)
        assert waiter.poll() is None
        assert bench.status()["state"] == "SUBMITTING"
    finally:
        bench.cluster.start("slurmctld")
    out, errors = waiter.communicate(timeout=600)
    assert waiter.returncode == 0, errors
    assert json.loads(out)["jobs"][0]["state"] == "COMPLETED"
    row.ends(arrays=completes_as_undisturbed(bench, tiny, normalized_root), note="--wait submits it by itself")


@pytest.mark.long
def test_accounting_down(bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path) -> None:
    row = Row(bench, "slurmdbd down", request)
    forget_statistics(bench)
    bench.cluster.stop("slurmdbd")
    try:
        answer = bench.run(*submit_normalize(bench, "--wait"))
        assert answer["jobs"][0]["state"] == "COMPLETED"
        equal = completes_as_undisturbed(bench, tiny, normalized_root)
    finally:
        bench.cluster.start("slurmdbd")
    row.ends(arrays=equal, note="squeue and the result file suffice")


def train(bench: Bench, *options: str, overrides: list[str]) -> list[str]:
    sets = [part for override in overrides for part in ("--set", override)]
    return ["submit", "train", "tiny", "--site", "bench", "--key", "job", *sets, *options]


def assert_checkpoint_intact(bench: Bench, overrides: list[str]) -> int:
    """The last checkpoint is whole; the update it stands at."""
    path = checkpoint.last(Paths(experiment(*overrides), bench.root).checkpoints)
    assert path is not None
    for file in ("emulator.npz", "training.npz"):
        assert checkpoint.read_arrays(path, file)
    return int(path.name)


def ends_equal(bench: Bench, undisturbed: Undisturbed, overrides: list[str] = SHORT, seconds: float = 900) -> str:
    bench.until("COMPLETED", seconds=seconds)
    assert_equal(final_arrays(experiment(*overrides), bench.root), undisturbed(overrides))
    return "equal"


@pytest.mark.long
def test_the_queue_is_empty_for_several_polls(
    bench: Bench, request: pytest.FixtureRequest, undisturbed: Undisturbed
) -> None:
    row = Row(bench, "squeue and sacct empty for several polls", request)
    waiter = bench.start(*train(bench, "--wait", "--json", overrides=SHORT))
    bench_started(bench)
    for command in ("squeue", "sacct"):
        bench.shim(command, "exit 0")
    for _ in range(3):
        status = bench.status()
        assert status["state"] in ("UNKNOWN", "COMPLETED")
        if status["state"] == "UNKNOWN":
            assert "neither knows the job" in status["message"] and status["since"]
    assert bench.run(*train(bench, overrides=SHORT))["jobs"][0]["what"] in ("attached", "completed already")
    for command in ("squeue", "sacct"):
        bench.shim(command, None)
    out, errors = waiter.communicate(timeout=600)
    assert json.loads(out)["jobs"][0]["state"] == "COMPLETED", errors
    row.ends(arrays=ends_equal(bench, undisturbed), note="UNKNOWN meanwhile, nothing submitted")


def bench_started(bench: Bench, updates: int = 60) -> None:
    """Wait until the training is under way and has a checkpoint."""
    wait_for(lambda: bench.job().exists)
    bench.until_updates(updates)


@pytest.mark.long
def test_the_controller_down_in_the_middle_of_a_job(
    bench: Bench, request: pytest.FixtureRequest, undisturbed: Undisturbed
) -> None:
    row = Row(bench, "slurmctld down for a minute, job running", request)
    bench.run(*train(bench, overrides=LONG))
    bench_started(bench)
    bench.cluster.stop("slurmctld")
    try:
        time.sleep(30)
        assert bench.status()["state"] in ("RUNNING", "UNKNOWN", "COMPLETED")
        time.sleep(10)
    finally:
        bench.cluster.start("slurmctld")
    row.ends(arrays=ends_equal(bench, undisturbed, LONG), note="the job went on")


def test_cancelled_behind_our_back(bench: Bench, request: pytest.FixtureRequest, undisturbed: Undisturbed) -> None:
    row = Row(bench, "scancelled behind our back", request)
    job = bench.run(*train(bench, overrides=SHORT))["jobs"][0]
    bench_started(bench)
    bench.cluster.command("scancel", job["id"])
    assert bench.until("CANCELLED")["ending"] == "cancelled"
    assert assert_checkpoint_intact(bench, SHORT) > 0
    assert bench.run("tend", "job", "--site", "bench")["jobs"][0]["what"] == "stopped"
    row.ends(note="checkpoint intact; stays so until a person submits")
    again = bench.run(*train(bench, "--wait", overrides=SHORT))["jobs"][0]
    assert (again["state"], again["attempt"]) == ("COMPLETED", 2)
    ends_equal(bench, undisturbed)


def workers(bench: Bench) -> list[int]:
    """Process ids of the job's Python."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"jobs.worker.bootstrap" in line and str(bench.root).encode() in line and b"python" in line.split(b"\0")[0]:
            found.append(int(folder.name))
    return found


def test_its_process_killed(bench: Bench, request: pytest.FixtureRequest, undisturbed: Undisturbed) -> None:
    row = Row(bench, "its process killed -9", request)
    waiter = bench.start(*train(bench, "--wait", "--json", overrides=SHORT))
    bench_started(bench)
    pids = workers(bench)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    out, errors = waiter.communicate(timeout=600)
    assert json.loads(out)["jobs"][0]["state"] == "COMPLETED", errors
    status = row.ends(arrays=ends_equal(bench, undisturbed), note="--wait starts attempt 2")
    assert status["attempt"] == 2 and bench.job().attempt(2).cause == "killed"


def test_its_node_killed(bench: Bench, request: pytest.FixtureRequest, undisturbed: Undisturbed) -> None:
    row = Row(bench, "its node killed", request)
    job = bench.run(*train(bench, overrides=SHORT))["jobs"][0]
    bench_started(bench)
    node = bench.cluster.command("squeue", "-h", "-j", job["id"], "-o", "%N").strip()
    bench.cluster.kill_node(node)
    try:
        equal = ends_equal(bench, undisturbed)
    finally:
        bench.cluster.start(f"slurmd-{node}")
    status = row.ends(arrays=equal, note="requeued, same number")
    assert status["attempt"] == 1 and status["id"] == job["id"] and status["starts"] == 2


@pytest.mark.long
def test_one_of_two_nodes_killed_that_share_each_sample(
    cluster: Cluster, bench: Bench, request: pytest.FixtureRequest, tmp_path: Path, normalized_root: Path
) -> None:
    """Each has half of the grid and of the mesh; begun again they go on as if nothing had been, bit for bit."""
    row = Row(bench, "one of two nodes killed", request)
    shared = [*SHORT, "training.compute.mesh={space: 2}", "training.compute.devices=1"]
    two = ("--resource", "nodes=2")
    job = bench.run(*train(bench, *two, overrides=shared))["jobs"][0]
    bench_started(bench)
    bench.cluster.kill_node("n2")
    wait_for(lambda: not workers(bench), 120)  # Slurm ends the other half
    bench.cluster.start("slurmd-n2")
    bench.until("COMPLETED", seconds=900)
    other = Bench(cluster, tmp_path / "undisturbed", normalized_root)
    assert other.run(*train(other, *two, "--wait", overrides=shared))["jobs"][0]["state"] == "COMPLETED"
    chosen = experiment(*shared)
    assert_equal(final_arrays(chosen, bench.root), final_arrays(chosen, other.root))
    status = row.ends(arrays="equal", note="requeued on both")
    assert (status["attempt"], status["id"], status["starts"]) == (1, job["id"], 2)
    assert [segment["nodes"] for segment in bench.job().segments(1)] == [["n1", "n2"]] * 2
    meta = checkpoint.read_meta(checkpoint.last(Paths(chosen, bench.root).checkpoints))
    assert (meta["environment"]["processes"], meta["environment"]["space"]) == (2, 2)


def test_preempted(bench: Bench, request: pytest.FixtureRequest, undisturbed: Undisturbed) -> None:
    row = Row(bench, "preempted", request)
    job = bench.run(*train(bench, "--resource", "partition=low", overrides=SHORT))["jobs"][0]
    bench_started(bench)
    done_before = bench.job().progress()["done"]
    # takes both nodes whole
    bench.cluster.command("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    equal = ends_equal(bench, undisturbed)
    status = row.ends(arrays=equal, note="saved, requeued, went on")
    assert status["attempt"] == 1 and status["id"] == job["id"] and status["starts"] == 2
    first = status["history"]["segments"][0]
    assert first["reason"] == "preempted" and first["done"] >= done_before


def test_the_time_limit_hit_twice(
    cluster: Cluster, tmp_path: Path, normalized_root: Path, request: pytest.FixtureRequest, undisturbed: Undisturbed
) -> None:
    """On any machine: a training that waits half a second before each update, until its third start."""
    slow, python = tmp_path / "slow", tmp_path / "python"
    slow.touch()
    python.write_text(f'#!/bin/bash\nshift 3\nexec {sys.executable} -u -c {shlex.quote(WAITING)} {slow} "$@"\n')
    python.chmod(0o755)
    bench = Bench(cluster, tmp_path, normalized_root, lead=30, python=str(python))
    row = Row(bench, "time limit hit twice", request)
    options = ("--resource", "partition=short", "--resource", "time_limit=1")
    job = bench.run(*train(bench, *options, overrides=SHORT))["jobs"][0]
    wait_for(lambda: len([line for line in bench.job().segments(1) if "start" in line]) >= 3, 900)
    slow.unlink()
    bench.cluster.command("scontrol", "update", f"JobId={job['id']}", "TimeLimit=10")  # enough on any machine
    equal = ends_equal(bench, undisturbed)
    status = row.ends(arrays=equal, note="saved and requeued each time")
    assert status["attempt"] == 1 and status["id"] == job["id"] and status["starts"] >= 3
    reasons = [segment["reason"] for segment in status["history"]["segments"]]
    assert reasons.count("time limit") >= 2 and reasons[-1] == "done"
    # on a busy machine a segment may end before its first update
    done = [segment["done"] for segment in status["history"]["segments"] if segment["done"]]
    assert done == sorted(done) and len(done) >= 2


@pytest.mark.long
def test_out_of_memory(bench: Bench, request: pytest.FixtureRequest, undisturbed: Undisturbed) -> None:
    row = Row(bench, "host out of memory", request)
    bench.run(*train(bench, "--resource", "memory=300M", overrides=SHORT))
    assert bench.until("FAILED")["ending"] == "out_of_memory"
    assert bench.run("tend", "job", "--site", "bench")["jobs"][0]["what"] == "stopped"
    row.ends(note="not tried again by itself")
    more = bench.run(*train(bench, "--wait", "--resource", "memory=4G", overrides=SHORT))["jobs"][0]
    assert (more["state"], more["attempt"]) == ("COMPLETED", 2)
    ends_equal(bench, undisturbed)


@pytest.mark.long
def test_the_run_folder_full(
    cluster: Cluster,
    tmp_path: Path,
    normalized_root: Path,
    request: pytest.FixtureRequest,
    undisturbed: Undisturbed,
) -> None:
    bench = Bench(cluster, tmp_path, normalized_root)
    row = Row(bench, "run folder full", request)
    small = bench.root / "runs"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system of its own can be mounted here: this row needs root")
    try:
        bench.run(*train(bench, overrides=SHORT))
        bench_started(bench)
        with open(small / "ballast", "wb") as file:
            try:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            except OSError:
                pass
        status = bench.until("FAILED")
        assert status["ending"] == "disk_full", status["message"]
        assert assert_checkpoint_intact(bench, SHORT) > 0
        assert bench.run("tend", "job", "--site", "bench")["jobs"][0]["what"] == "waits for a person"
        row.ends(note="checkpoint intact; waits for a person")
        (small / "ballast").unlink()
        again = bench.run(*train(bench, "--wait", overrides=SHORT))["jobs"][0]
        assert again["state"] == "COMPLETED"
        ends_equal(bench, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_hung_step(
    cluster: Cluster,
    tmp_path: Path,
    normalized_root: Path,
    request: pytest.FixtureRequest,
    tiny: Experiment,
) -> None:
    bench = Bench(cluster, tmp_path, normalized_root, hung_after=15)
    row = Row(bench, "a hung step", request)
    forget_statistics(bench)
    # a lock on the shared file system that nobody gives back, as a dead node's
    folder = Paths(tiny, bench.root).moments
    with contextlib.ExitStack() as held:
        held.enter_context(locked(folder, should_stop=lambda: True, waiting=lambda: None))
        bench.run(*submit_normalize(bench))
        status = bench.until("FAILED")
        assert status["ending"] == "hung" and "hung.txt" in status["message"]
        assert "lock.py" in (bench.job().folder(1) / "hung.txt").read_text()
    assert bench.run("tend", "job", "--site", "bench")["jobs"][0]["what"] == "continued"
    equal = completes_as_undisturbed(bench, tiny, normalized_root)
    assert row.ends(arrays=equal, note="ended after 15 s without progress")["attempt"] == 2


@pytest.mark.long
def test_a_look_up_after_midnight(
    bench: Bench, request: pytest.FixtureRequest, tiny: Experiment, normalized_root: Path
) -> None:
    """Accounting asked without a time looks back to midnight only."""
    row = Row(bench, "look-up after midnight", request)
    forget_statistics(bench)
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed: run scripts/packages.sh slurm as root")
    kill(halted(bench, "after"))
    wait_for(lambda: bench.job().result() is not None)
    name = bench.job().attempt().name
    over = ("sacct", "-X", "-n", "-o", "State%20", "--name", name)
    wait_for(lambda: "COMPLETED" in bench.cluster.command(*over))
    # what the look-up finds when neither the result nor squeue remembers the job
    shutil.move(bench.job().path / "result.json", bench.job().path / "result-kept.json")
    shutil.rmtree(bench.job().folder(1) / "submitit")
    (bench.job().folder(1) / "claim-0").unlink()
    bench.shim("squeue", "exit 0")
    tomorrow = time.strftime("%Y-%m-%d 00:05:00", time.localtime(time.time() + 86400))
    bench.shim("sacct", f'echo "$@" >> {bench.bin}/asked; exec faketime "{tomorrow}" $REAL "$@"')
    control = subprocess.run(
        [bench.bin / "sacct", "-X", "-n", "--name", name, "-o", "JobID"], env=bench.env, capture_output=True, text=True
    )
    assert control.stdout.strip() == "", "without a start time the job is not found: this row tests nothing otherwise"
    command = ["faketime", tomorrow, sys.executable, "-m", "jobs", *submit_normalize(bench), "--json"]
    done = subprocess.run([*command, "--root", str(bench.root)], env=bench.env, capture_output=True, text=True)
    job = json.loads(done.stdout)["jobs"][0]
    assert job["id"] is not None and job["attempt"] == 1, job
    for line in (bench.bin / "asked").read_text().splitlines()[1:]:
        start = line.split()[line.split().index("-S") + 1]
        assert start < time.strftime("%Y-%m-%dT%H:%M:%S"), line
    for command_name in ("squeue", "sacct"):
        bench.shim(command_name, None)
    shutil.move(bench.job().path / "result-kept.json", bench.job().path / "result.json")
    row.ends(arrays=completes_as_undisturbed(bench, tiny, normalized_root), note="asked from the day before on")
