"""From a trigger of Airflow over SSH to Slurm and back: training, and what two trainings share."""

from __future__ import annotations

from typing import Any

import pytest

from graphufs import registry
from tests.airflow.bench import AirflowBench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS = ("prepare", "normalize", "train", "forecast", "evaluate", "report", "register")


def trigger(bench: AirflowBench, **more: Any) -> str:
    """Start a training of tiny on the bench's site."""
    bench.api.unpause("training")
    return bench.trigger("training", {"experiment": "tiny", "site": "bench", **more})


def finished(bench: AirflowBench, dag: str, run: str, seconds: float = 400) -> None:
    """Wait for a run's success."""
    state = bench.api.wait(dag, run, seconds)
    tasks = bench.api.task_instances(dag, run)
    failed = [bench.log(task) for task in tasks if task["state"] == "failed"]
    assert state == "success", failed or tasks


def test_a_training_goes_from_a_form_to_a_registered_candidate(bench: AirflowBench) -> None:
    world = "data.source.world.seed=1"  # whose data nobody has prepared
    run = trigger(bench, overrides=[world], updates=6, seed=5)
    finished(bench, "training", run)
    jobs = {step: bench.slurm.job(bench.key("training", run, step)) for step in STEPS}
    for step, job in jobs.items():
        result = job.result()
        assert result is not None and result["attempt"] == 1, step
        assert bench.slurm.submissions(job.key) == 1
    experiment = jobs["train"].experiment()
    assert (experiment.training.seed, experiment.training.stages[0].updates) == (5, 6)
    assert experiment.data.source.world.seed == 1 and experiment.name == "tiny"
    log = bench.log(bench.task("training", run, "train"))
    assert "stage" in log and "COMPLETED" in log and "GPU-hours" in log, log
    made = jobs["register"].result()
    assert made is not None
    model = registry.get(bench.slurm.root, made["result"]["model"])
    assert (model.experiment_name, model.role, model.update) == ("tiny", "candidate", 10)
    events = bench.api.request("GET", "/assets/events", source_dag_id="training", source_run_id=run)["asset_events"]
    assert [event["extra"]["model"] for event in events] == [model.id] and events[0]["extra"]["site"] == "bench"


@pytest.mark.faults
def test_two_trainings_at_once_share_data_and_statistics(bench: AirflowBench) -> None:
    world = "data.source.world.seed=2"
    runs = [trigger(bench, overrides=[world], updates=6, seed=seed) for seed in (1, 2)]
    for run in runs:
        finished(bench, "training", run)
    results = {step: [result_of(bench, run, step) for run in runs] for step in STEPS}
    first, second = results["prepare"]
    assert first["folder"] == second["folder"] and first["new"] + second["new"] == first["stamps"]
    assert {first["status"], second["status"]} == {"completed", "unchanged"}
    first, second = results["normalize"]
    assert first["folder"] == second["folder"] and {first["status"], second["status"]} == {"completed", "unchanged"}
    models = [registry.get(bench.slurm.root, made["model"]) for made in results["register"]]
    assert models[0].run != models[1].run


def result_of(bench: AirflowBench, run: str, step: str) -> dict[str, Any]:
    """What a step of a training has made."""
    content = bench.slurm.job(bench.key("training", run, step)).result()
    assert content is not None
    result: dict[str, Any] = content["result"]
    return result
