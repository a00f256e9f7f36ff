"""From Airflow over SSH to Slurm and back: a training, the night that follows it, and what two trainings share."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from graphufs.registry import registry
from graphufs.registry.decisions import promote
from graphufs.weatherbench.results.scores import Scores
from tests.support.airflow.bench import AirflowBench, eventually
from tests.support.airflow.browser import answer, look_at_models, skip_without_browser, train_by_hand

pytestmark = pytest.mark.timeout(1800)
TRAINING = ("prepare", "normalize", "train", "forecast", "evaluate", "report", "register")
NIGHT = ("extend_world", "plan_nightly", "prepare", "forecast", "evaluate", "record_nightly")


def trigger(bench: AirflowBench, **more: Any) -> str:
    """Start a training of tiny on the bench's site."""
    bench.api.unpause("training")
    return bench.trigger("training", {"experiment": "tiny", "site": "bench", "updates": 6, **more})


def finished(bench: AirflowBench, dag: str, run: str, seconds: float = 800) -> None:
    """Wait for a run's success."""
    state = bench.api.wait(dag, run, seconds)
    tasks = bench.api.task_instances(dag, run)
    assert state == "success", [(task["task_id"], task["state"], bench.log(task)[-3000:]) for task in tasks]


def result(bench: AirflowBench, dag: str, run: str, step: str) -> dict[str, Any]:
    """What a step has made, in one job that was submitted once."""
    key = bench.key(dag, run, step)
    content = bench.slurm.job(key).result()
    assert content is not None and content["attempt"] == 1 and bench.slurm.submissions(key) == 1, step
    made: dict[str, Any] = content["result"]
    return made


def asset_event(bench: AirflowBench, dag: str, run: str) -> dict[str, Any]:
    """What the one asset event of a run says."""
    found = bench.api.request("GET", "/assets/events", source_dag_id=dag, source_run_id=run, limit=10)["asset_events"]
    (event,) = (one for one in found if one["source_task_id"] in ("register", "record_nightly"))
    extra: dict[str, Any] = event["extra"]
    return extra


@pytest.mark.faults  # where an Airflow is up
def test_a_training_by_hand_goes_from_the_form_to_a_registered_candidate(bench: AirflowBench, pictures: Path) -> None:
    skip_without_browser()
    bench.api.unpause("training")
    # a world whose data nobody has prepared
    seen = train_by_hand(
        bench.stack.url,
        bench.stack.passwords["op"],
        pictures,
        lambda run: finished(bench, "training", run, 1500),
        seed=5,
        world=1,
    )
    assert "stage" in seen.log and "COMPLETED" in seen.log and seen.addresses == {"127.0.0.1"}
    assert {path.stem for path in pictures.glob("*.png")} >= {"form", "form-training", "run", "log"}
    run = seen.run
    assert bench.api.request("GET", f"/dags/training/dagRuns/{quote(run)}")["triggering_user_name"] == "op"
    made = {step: result(bench, "training", run, step) for step in TRAINING}
    assert made["prepare"]["new"] == made["prepare"]["stamps"] > 0 and made["normalize"]["status"] == "completed"
    experiment = bench.slurm.job(bench.key("training", run, "train")).experiment()
    assert (experiment.training.seed, experiment.training.stages[0].updates) == (5, 6)
    assert experiment.data.source.world.seed == 1 and experiment.name == "tiny"
    model = registry.get(bench.slurm.root, made["register"]["model"])
    assert (model.experiment_name, model.role, model.update) == ("tiny", "candidate", 10)
    told = asset_event(bench, "training", run)
    assert (told["model"], told["site"]) == (model.id, "bench") and told["scores"]

    for address in ("", "file?site=bench&path=catalogue.json", "style.css"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{bench.stack.url}/graphufs/{address}", timeout=30)
    addresses = look_at_models(bench.stack.url, bench.stack.passwords["viewer"], pictures, model.id)
    assert addresses == {"127.0.0.1"} and (pictures / "models-phone.png").exists()


@pytest.mark.faults
@pytest.mark.long  # what lands shows it in containers (tests/compose)
def test_a_checkpoint_triggers_a_night_that_scores_it(bench: AirflowBench) -> None:
    bench.api.unpause("nightly_evaluation")
    run = trigger(bench, seed=6)
    finished(bench, "training", run)
    model = registry.get(bench.slurm.root, result(bench, "training", run, "register")["model"])

    def nights() -> list[str]:
        runs = bench.api.request("GET", "/dags/nightly_evaluation/dagRuns", limit=10)["dag_runs"]
        return [one["dag_run_id"] for one in runs if one["run_type"] == "asset_triggered"]

    eventually(nights, 60)
    (night,) = nights()
    finished(bench, "nightly_evaluation", night)
    made = {step: result(bench, "nightly_evaluation", night, step) for step in NIGHT}
    recorded = made["record_nightly"]
    assert recorded["model"] == model.id and recorded["added"] and recorded["latest"]
    assert (bench.slurm.root / recorded["report"]).exists() and (bench.slurm.root / recorded["store"]).exists()
    assert asset_event(bench, "nightly_evaluation", night)["model"] == model.id
    seen = {task["task_id"]: task["state"] for task in bench.api.task_instances("nightly_evaluation", night)}
    assert seen.pop("publish") == "skipped" and set(seen.values()) == {"success"}, seen


@pytest.mark.faults
@pytest.mark.long
def test_an_ensemble_is_trained_and_has_a_night(bench: AirflowBench) -> None:
    bench.api.unpause("nightly_evaluation")
    stages = "training.stages=[{name: crps, updates: 8, loss: {kind: crps}, learning_rate: {peak: 1.0e-3}}]"
    run = trigger(bench, seed=7, members=3, overrides=["model.noise=8", stages])
    finished(bench, "training", run)
    model = registry.get(bench.slurm.root, result(bench, "training", run, "register")["model"])
    assert model.scores["members"] == 3

    def nights() -> list[str]:
        """Nights of this model that are over."""
        runs = bench.api.request("GET", "/dags/nightly_evaluation/dagRuns", limit=20)["dag_runs"]
        over = [one["dag_run_id"] for one in runs if one["run_type"] == "asset_triggered" and one["state"] == "success"]
        planned = {one: bench.slurm.job(bench.key("nightly_evaluation", one, "plan_nightly")).result() for one in over}
        return [one for one, content in planned.items() if content and content["result"]["model"] == model.id]

    eventually(nights, 800)
    (night,) = nights()
    made = {step: result(bench, "nightly_evaluation", night, step) for step in NIGHT}
    assert made["record_nightly"]["model"] == model.id and made["record_nightly"]["added"]
    latest = made["record_nightly"]["latest"]
    assert latest["members"] == 3 and all(one["crps"]["24h"] > 0 for one in latest["crps"])
    scores = Scores.open(bench.slurm.root / made["record_nightly"]["store"])
    assert scores.histograms is not None and "spread_skill" in scores.dataset.metric


@pytest.mark.faults
@pytest.mark.long
def test_two_trainings_at_once_share_data_and_statistics(bench: AirflowBench) -> None:
    world = "data.source.world.seed=2"
    runs = [trigger(bench, overrides=[world], seed=seed) for seed in (1, 2)]
    for run in runs:
        finished(bench, "training", run)
    made = {step: [result(bench, "training", run, step) for run in runs] for step in TRAINING}
    first, second = made["prepare"]
    assert first["folder"] == second["folder"] and first["new"] + second["new"] == first["stamps"]
    for first, second in (made["prepare"], made["normalize"]):
        assert first["folder"] == second["folder"]
        assert {first["status"], second["status"]} == {"completed", "unchanged"}
    models = [registry.get(bench.slurm.root, one["model"]) for one in made["register"]]
    assert models[0].run != models[1].run


RULE = [
    *(f"retraining.{key}" for key in ("training_days=10", "validation_days=2", "comparison_times=8", "level=0.49")),
    *("retraining.worse_by_at_most=9", "retraining.stability={margin: 1000, spectrum: 100000}"),
    *("nightly.days_per_night=40", "training.batch_size=4", "data.source.world.seed=6"),
]
"""A rule for models without skill, in a world of its own that goes on by 40 days a night."""


@pytest.mark.faults
@pytest.mark.long
def test_a_person_promotes_a_challenger_nights_follow_it_and_a_rollback_goes_back(
    bench: AirflowBench, pictures: Path
) -> None:
    skip_without_browser()
    bench.api.unpause("nightly_evaluation")
    for dag in ("retraining", "rollback"):
        bench.api.unpause(dag)
    root = bench.slurm.root
    first_run = trigger(bench, overrides=["data.source.world.seed=6"])
    finished(bench, "training", first_run)
    first = result(bench, "training", first_run, "register")["model"]
    promote(root, first, "test", "the first")
    run = bench.trigger("retraining", {"experiment": "tiny", "site": "bench", "then": "ask", "overrides": RULE})
    bench.until_task("retraining", run, "awaiting_input", task="ask", seconds=400)
    answer(bench.stack.url, bench.stack.passwords["op"], pictures, run, "Promote")
    finished(bench, "retraining", run)
    states = {task["task_id"]: task["state"] for task in bench.api.task_instances("retraining", run)}
    assert states.pop("hold") == "skipped" and set(states.values()) == {"success"}, states
    second = registry.champion(root, "tiny")
    assert second is not None and second.parent == first and second.cost["segments"] == 1
    assert registry.history(root)[-1].by == "op" and second.cost["queue_wait"] is not None

    def nights(model: str) -> list[str]:
        """Nights that an asset has triggered for a model, which are over."""
        runs = bench.api.request("GET", "/dags/nightly_evaluation/dagRuns", limit=20)["dag_runs"]
        over = [one for one in runs if one["run_type"] == "asset_triggered" and one["state"] in ("success", "failed")]
        keys = [bench.key("nightly_evaluation", one["dag_run_id"], "plan_nightly") for one in over]
        planned = [content["result"]["model"] for key in keys if (content := bench.slurm.job(key).result())]
        return [one for one in planned if one == model]

    eventually(lambda: nights(second.id), 400)
    before = len(nights(first))
    back = bench.trigger("rollback", {"experiment": "tiny", "site": "bench", "why": "worse nights"})
    finished(bench, "rollback", back)
    assert registry.champion(root, "tiny").id == first and registry.history(root)[-1].why == "worse nights"
    eventually(lambda: len(nights(first)) > before, 400)
