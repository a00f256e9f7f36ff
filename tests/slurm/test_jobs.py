"""Jobs on a real Slurm: the whole chain, once each, and what people do to jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.storage.paths import Paths
from jobs.job.folder import JobFolder
from tests.slurm import slurm_cluster
from tests.support.slurm_bench import Bench, assert_equal, final_arrays

Cluster = slurm_cluster.Cluster


@pytest.fixture
def bench(cluster: Cluster, tmp_path: Path, normalized_root: Path) -> Bench:
    """Where `normalize` finds its work done and is soon over."""
    return Bench(cluster, tmp_path, normalized_root)


def store(path: Path) -> dict[str, np.ndarray]:
    with xr.open_zarr(path) as dataset:
        return {str(name): array.values for name, array in dataset.load().variables.items()}


@pytest.mark.long  # what lands shows the chain from the browser, and two steps' bytes with the faults
def test_all_steps_on_slurm_give_the_arrays_of_the_steps_run_inline(
    cluster: Cluster, tmp_path: Path, tiny: Experiment, finished_root: Path
) -> None:
    bench = Bench(cluster, tmp_path)
    answer = bench.run("run", "tiny", "--site", "bench", "--resource", "blocks=1", "--wait")
    assert answer["code"] == 0 and [job["state"] for job in answer["jobs"]] == ["COMPLETED"] * 6
    here, there = Paths(tiny, finished_root), Paths(tiny, bench.root)
    assert_equal(final_arrays(tiny, bench.root), final_arrays(tiny, finished_root))
    assert_equal(store(there.forecasts), store(here.forecasts))
    assert_equal(store(there.scores), store(here.scores))
    for path in sorted(here.statistics().glob("*.zarr")):
        assert_equal(store(there.statistics() / path.name), store(path))
    assert there.report.exists()
    again = bench.run("run", "tiny", "--site", "bench")
    assert [job["what"] for job in again["jobs"]] == ["completed already"] * 6
    train = next(job["key"] for job in answer["jobs"] if job["step"] == "train")
    history = bench.history(train)
    (segment,) = history["segments"]
    assert segment["nodes"] in ("n1", "n2") and segment["reason"] == "done" and segment["done"] == 16
    assert segment["gpu_hours"] > 0 and segment["cpu_efficiency"] > 0.1 and segment["queue_wait"] >= 0
    assert 0 <= history["waiting"] <= 1


@pytest.mark.faults  # it waits more than it computes
def test_a_forecast_is_divided_into_a_job_array_and_put_together(
    cluster: Cluster, tmp_path: Path, tiny: Experiment, finished_root: Path, trained_root: Path
) -> None:
    bench = Bench(cluster, tmp_path, trained_root, resources={"forecast": {"blocks": 3}})
    job = bench.submit("forecast", "--wait")
    assert job["state"] == "COMPLETED"
    assert_equal(store(Paths(tiny, bench.root).forecasts), store(Paths(tiny, finished_root).forecasts))
    assert len(bench.history()["segments"]) == 3


@pytest.mark.faults  # it waits more than it computes
def test_several_processes_train_and_prepare_together(
    cluster: Cluster, tmp_path: Path, tiny: Experiment, finished_root: Path
) -> None:
    bench = Bench(cluster, tmp_path)
    options = ("tiny", "--site", "bench", "--resource", "nodes=2", "--wait")
    for step in ("prepare", "normalize", "train"):
        answer = bench.run("submit", step, *options)
        assert [job["state"] for job in answer["jobs"]] == ["COMPLETED"], answer
    met = list(bench.root.glob("jobs/*/attempts/1/scheduler-*.json"))
    assert len(met) == 2 and all(json.loads(path.read_text())["address"].startswith("tls://") for path in met)
    assert not list(bench.root.glob("jobs/*/attempts/*/private-*"))
    here, there = Paths(tiny, finished_root), Paths(tiny, bench.root)
    for path in sorted(here.statistics().glob("*.zarr")):
        assert_equal(store(there.statistics() / path.name), store(path))
    ours, alone = final_arrays(tiny, bench.root), final_arrays(tiny, finished_root)
    assert ours.keys() == alone.keys()
    for name, array in alone.items():
        if array.dtype == np.float32:  # two processes add gradients up in another order
            limit = 2e-4 * max(float(np.abs(array).max(initial=0)), 1e-6)
            np.testing.assert_allclose(ours[name], array, rtol=0, atol=limit, err_msg=name)


def test_a_submitted_job_is_attached_to_cancelled_and_submitted_anew(bench: Bench) -> None:
    first = bench.submit("normalize", "--resource", "sbatch.begin=now+1hour")
    assert (first["what"], first["state"], first["attempt"]) == ("submitted", "PENDING", 1)
    second = bench.submit("normalize")
    assert (second["what"], second["id"]) == ("attached", first["id"])
    assert bench.submissions() == 1
    other = bench.start("submit", "train", "tiny", "--site", "bench", "--key", "job")
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 2 and "belongs to other work" in errors
    cancelled = bench.run("cancel", "job", "--site", "bench")["jobs"][0]
    assert cancelled["state"] in ("CANCELLED", "PENDING")
    assert bench.until("CANCELLED")["ending"] == "cancelled"
    assert "CANCELLED" in bench.cluster.command("sacct", "-X", "-n", "-o", "State%20", "-j", first["id"])
    third = bench.submit("normalize", "--wait")
    assert (third["state"], third["attempt"]) == ("COMPLETED", 2)


def test_what_the_site_refuses_comes_back_in_its_own_words(bench: Bench) -> None:
    refused = bench.submit("normalize", "--resource", "partition=nowhere")
    assert (refused["state"], refused["ending"]) == ("REFUSED", "refused")
    assert "nvalid partition" in refused["message"]
    assert bench.submit("normalize", "--wait")["state"] == "COMPLETED"


@pytest.mark.faults  # it waits more than it computes
def test_an_error_in_the_code_ends_the_job_and_what_needs_it(cluster: Cluster, tmp_path: Path) -> None:
    bench = Bench(cluster, tmp_path)
    first = bench.run("submit", "normalize", "tiny", "--site", "bench", "--key", "job")["jobs"][0]
    assert first["what"] == "submitted"
    after = bench.run("submit", "train", "tiny", "--site", "bench", "--key", "after", "--needs", "job")["jobs"][0]
    assert after["state"] in ("PENDING", "REFUSED")
    failed = bench.until("FAILED")
    assert failed["ending"] == "bad_input" and "prepare" in failed["message"]
    assert bench.until("FAILED", "CANCELLED", "REFUSED", key="after")["ending"] in ("dependency", "refused")
    shown = bench.start("status", "job", "--site", "bench")
    out, _ = shown.communicate(timeout=60)
    assert "reproduce: graphufs-jobs submit normalize" in out and "--site debug" in out


@pytest.mark.long  # two do so among the faults, and without Slurm in tests/jobs/submission/test_submit
def test_two_submitters_at_once_start_one_job(bench: Bench) -> None:
    processes = [bench.start("submit", "normalize", "tiny", "--site", "bench", "--key", "job", "--json") for _ in "ab"]
    answers = [json.loads(process.communicate(timeout=60)[0])["jobs"][0] for process in processes]
    assert sorted(answer["what"] for answer in answers) == ["attached", "submitted"]
    assert len({answer["id"] for answer in answers}) == 1 and bench.submissions() == 1
    bench.run("cancel", "job", "--site", "bench")


def test_the_preflight_of_the_cluster_finds_everything_well(bench: Bench) -> None:
    answer = bench.run("sites", "bench", "--check")
    assert answer["code"] == 0, [one for one in answer["findings"] if not one["good"]]
    found = {finding["what"]: finding for finding in answer["findings"]}
    assert "to start at" in found["train job"]["words"] and found["GPU"]["good"] is True


def test_the_state_of_many_jobs_costs_one_call_of_each_command(bench: Bench) -> None:
    first = bench.submit("normalize", "--resource", "sbatch.begin=now+1hour")
    origin = bench.job()
    for index in range(149):
        copy = JobFolder(bench.root, f"copy-{index}")
        copy.write_intent(replace(origin.require(), key=copy.key), origin.experiment())
        attempt = origin.attempt()
        assert attempt is not None
        copy.write_attempt(attempt, id=str(10_000 + index))
    for command in ("squeue", "sacct"):
        bench.shim(command, f'echo x >> {bench.bin}/{command}.calls; exec $REAL "$@"')
    statuses = bench.run("list", "--site", "bench")["jobs"]
    assert len(statuses) == 150
    states = [status["state"] for status in statuses]
    assert states.count("PENDING") == 1 and states.count("UNKNOWN") == 149
    for command in ("squeue", "sacct"):
        assert (bench.bin / f"{command}.calls").read_text() == "x\n"
    bench.cluster.command("scancel", first["id"])


def test_the_command_imports_no_jax_and_no_xarray() -> None:
    code = "import sys, jobs.cli.main; print([name for name in ('jax', 'xarray', 'zarr') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
