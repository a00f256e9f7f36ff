"""Rounds of retraining over a growing record, all real: one promoted, one held, one refused, and a rollback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphufs.cli.main import main
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.emulator import checkpoint
from graphufs.nightly.scores import NightlyScores
from graphufs.registry import registry
from graphufs.registry.decisions import promote
from graphufs.replay.synthetic.store import ensure_world
from graphufs.steps import run_step
from graphufs.storage.checksums import read_checked
from graphufs.storage.paths import Paths

TRAINED = ("prepare", "normalize", "train")
RULE = [
    "retraining.training_days=10",
    "retraining.validation_days=2",
    "retraining.comparison_times=12",
    "retraining.new_days=3",
    "retraining.then=promote",
    # a network this small, trained for seconds, keeps to no climate: only what is planted shall be refused
    "retraining.stability.margin=100",
    "retraining.stability.spectrum=1e9",
    "training.stages.0.updates=40",
    "training.stages.0.learning_rate.peak=0.01",
]


def asked(tiny: Experiment, *more: str) -> Experiment:
    return loading.parse(loading.dump(tiny), [*RULE, *more])


def grow(experiment: Experiment, root: Path, end: str) -> None:
    """Let the record go on to a time."""
    world = Paths(experiment, root).world
    ensure_world(world, experiment.data.source.world, np.datetime64(end, "h"), exact=True)


def train(experiment: Experiment, root: Path) -> tuple[Experiment, Request]:
    """Plan a challenger and train it; what the steps after that are given."""
    plan = run_step("plan_retraining", experiment, root)
    assert plan["experiment"], plan["message"]
    planned = loading.parse(plan["experiment"])
    for step in TRAINED:
        run_step(step, planned, root)
    return planned, loading.request(plan["request"])


def settle(planned: Experiment, request: Request, root: Path) -> dict[str, Any]:
    """Compare the challenger with the champion, and decide."""
    compared = run_step("compare_models", planned, root, request=request)
    decided = run_step("decide", planned, root, request=request)
    assert decided["decision"] == compared["decision"], compared
    assert run_step("decide", planned, root, request=request)["status"] == "unchanged"
    return compared


def damage(planned: Experiment, root: Path) -> None:
    """Swap the trained weights for noise, in a checkpoint that is whole by all checksums."""
    folder = Paths(planned, root).checkpoints
    path = checkpoint.last(folder)
    assert path is not None
    meta = {
        name: value for name, value in checkpoint.read_meta(path).items() if name not in ("format", "update", "sha256")
    }
    rng, emulator = np.random.default_rng(0), checkpoint.read_arrays(path, "emulator.npz")
    spoilt = {
        name: rng.normal(size=array.shape).astype(array.dtype)
        if name.startswith("network") and array.ndim == 2
        else array
        for name, array in emulator.items()
    }
    assert any(not np.array_equal(spoilt[name], emulator[name]) for name in emulator)
    checkpoint.save(folder, int(path.name), spoilt, checkpoint.read_arrays(path, "training.npz"), meta)


def champion_of_tonight(experiment: Experiment, root: Path) -> str:
    """Whom a night goes on with."""
    return str(run_step("plan_nightly", experiment, root)["model"])


@pytest.mark.long  # what lands shows a round with its roll-back inside Airflow (tests/airflow/inside/test_retraining)
def test_rounds_over_a_growing_record(
    tiny: Experiment,
    finished_root: Path,
    copy_of_root: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, wanted = copy_of_root(finished_root), asked(tiny)
    first = run_step("register", tiny, root)["model"]
    promote(root, first, "somebody", "the first one")

    nothing = run_step("plan_retraining", wanted, root)
    assert nothing["experiment"] is None and "nothing new" in nothing["message"]

    # the record goes on: a challenger that is trained longer is better beyond chance
    grow(wanted, root, "1994-02-12T18")
    found = settle(*train(wanted, root), root)
    better = found["model"]
    assert found["decision"] == "promote", found["why"]
    model = registry.get(root, better)
    assert (model.role, model.parent, registry.get(root, first).role) == ("champion", first, "retired")
    evidence = read_checked(root / found["evidence"])
    assert evidence["champion"] == first and len(evidence["initial_times"]) == 12 and not evidence["unstable"]
    assert all(finding["change"] < 0 for finding in evidence["findings"])
    assert champion_of_tonight(wanted, root) == better
    page = (root / found["evidence"]).with_suffix(".html").read_text()
    assert f"<h1>{better} against {first}</h1>" in page and "Scorecard: RMSE" in page
    with pytest.raises(SystemExit) as ended:
        main(["models", "compare", better, "--root", str(root)])
    assert ended.value.code == 0 and "The rule says **promote**" in capsys.readouterr().out

    # the nights are the new champion's: its scores grow
    night = run_step("plan_nightly", wanted, root)
    tonight = loading.parse(night["experiment"])
    for step in ("prepare", "forecast", "evaluate", "record_nightly"):
        run_step(step, tonight, root)
    scores = NightlyScores(Paths(tonight, root).nightly(model.checkpoint)).open()
    assert scores is not None and len(scores.initial_times) == len(night["initial_times"])

    # no new data, nothing to do; more data, but a training that learns nothing
    assert run_step("plan_retraining", wanted, root)["experiment"] is None
    grow(wanted, root, "1994-02-20T18")
    still = asked(tiny, "training.stages.0.learning_rate.peak=1e-12", "training.stages.1.learning_rate.peak=1e-12")
    found = settle(*train(still, root), root)
    assert found["decision"] == "hold" and "no named score is better beyond chance" in found["why"]
    assert registry.get(root, found["model"]).role == "candidate"
    assert champion_of_tonight(wanted, root) == better

    # a damaged checkpoint is refused, whatever its checksums say
    grow(wanted, root, "1994-02-26T18")
    planned, request = train(wanted, root)
    damage(planned, root)
    found = settle(planned, request, root)
    assert found["decision"] == "refuse", found["why"]
    assert registry.get(root, found["model"]).role == "retired"
    assert champion_of_tonight(wanted, root) == better

    # back to the first: nights go on with it, and the history tells all of it
    assert run_step("rollback", wanted, root)["model"] == first
    assert champion_of_tonight(wanted, root) == first
    assert [event.kind for event in registry.history(root) if event.kind not in ("registered", "scored")] == [
        "promoted", "promoted", "held", "refused", "promoted",
    ]  # fmt: skip
    roles = [model.role for model in registry.models(root)]
    assert roles.count("champion") == 1
