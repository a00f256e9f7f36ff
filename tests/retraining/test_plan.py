"""Windows of a round: what they are made of, and when there is nothing new."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.config.base import Period
from graphufs.config.experiment import Experiment
from graphufs.nightly.initial_times import SourceTimes
from graphufs.registry import registry
from graphufs.registry.registry import RegisteredModel, RegistryEvent, model_id
from graphufs.retraining import plan
from graphufs.steps import run_step
from graphufs.storage.paths import Paths

SIX = timedelta(hours=6)


@pytest.fixture
def small(tiny: Experiment) -> Experiment:
    """Tiny with windows of ten and two days and eight fresh initial times, every 12 hours."""
    keys = ("training_days=10", "validation_days=2", "comparison_times=8", "new_days=3")
    return loading.parse(loading.dump(tiny), [f"retraining.{key}" for key in keys])


def trained(experiment: Experiment, update: int = 16, **changes: Any) -> RegisteredModel:
    run = Paths(experiment, Path()).run.name
    periods = {"training": str(experiment.data.training), "validation": str(experiment.data.validation)}
    made = RegisteredModel(
        id=model_id(experiment.name, run, update),
        experiment_name=experiment.name,
        experiment=loading.dump(experiment),
        run=run,
        run_folder=f"runs/tiny/{run}",
        checkpoint=f"{update:08d}",
        update=update,
        periods=periods,
        provenance={},
    )
    return replace(made, **changes)


def planned(experiment: Experiment, root: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> dict[str, Any]:
    """A plan with data up to a time."""
    stamps = np.arange(np.datetime64("1993-12-01T00"), np.datetime64(end) + 1, 6).astype("datetime64[ns]")
    monkeypatch.setattr(plan.SourceTimes, "look", lambda *_: SourceTimes(stamps, stamps[:0]))
    return run_step("plan_retraining", experiment, root)


def test_windows_follow_each_other_up_to_the_end_of_the_data(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(tmp_path, trained(small), "test")
    done = planned(small, tmp_path, monkeypatch, "1994-03-01T00")
    made = loading.parse(done["experiment"])
    training, validation = made.data.training, made.data.validation
    assert training.end + SIX == validation.start and training.end - training.start == timedelta(days=10) - SIX
    assert validation.end - validation.start == timedelta(days=2) - SIX
    windows = made.windows(made.initial_times)
    assert len(windows) == 8 and validation.end < windows[0].start
    assert timedelta(0) <= datetime(1994, 3, 1) - windows[-1].end < timedelta(hours=12)
    assert not any(one.overlaps(small.data.evaluation) for one in (training, validation, *windows))
    assert made.statistics_period == small.statistics_period and made.climatology_period == small.climatology_period
    assert done["request"] == {"champion": done["champion"]} and made.data.evaluation == small.data.evaluation
    expected = tmp_path / trained(small).run_folder / "checkpoints" / "00000016"
    assert made.training.init_from == str(expected)
    scratch = loading.parse(loading.dump(small), ["retraining.warm_start=false"])
    assert (
        loading.parse(planned(scratch, tmp_path, monkeypatch, "1994-03-01T00")["experiment"]).training.init_from is None
    )


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("1994-01-18T18", "needs data|touch the evaluation period"),
        ("1994-02-01T00", "touch the evaluation period"),  # the training window would
        ("1993-12-10T00", "days of data, which begin at 1993-12-01T00"),
    ],
)
def test_without_room_there_is_nothing_new_and_it_says_what_is_lacking(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, words: str
) -> None:
    registry.register(tmp_path, trained(small), "test")
    done = planned(small, tmp_path, monkeypatch, end)
    assert done["experiment"] is None and re.search(words, done["message"]), done["message"]


def test_the_end_of_data_that_a_plan_waits_for_is_enough(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(tmp_path, trained(small), "test")
    message = planned(small, tmp_path, monkeypatch, "1994-02-01T00")["message"]
    named = message.rpartition("need data up to ")[2]
    later = datetime.fromisoformat(named) + SIX
    assert planned(small, tmp_path, monkeypatch, later.strftime("%Y-%m-%dT%H"))["experiment"] is not None
    assert planned(small, tmp_path, monkeypatch, (later - 4 * SIX).strftime("%Y-%m-%dT%H"))["experiment"] is None


def test_a_later_round_needs_new_data_and_a_broken_one_goes_on(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no model of tiny" in planned(small, tmp_path, monkeypatch, "1994-03-01T00")["message"]
    registry.register(tmp_path, trained(small), "test")
    done = planned(small, tmp_path, monkeypatch, "1994-03-01T00")
    made = loading.parse(done["experiment"])
    challenger = trained(made, parent=done["champion"])
    registry.register(tmp_path, challenger, "test")
    again = planned(small, tmp_path, monkeypatch, "1994-03-01T00")
    assert again["experiment"] == loading.dump(made), "what is undecided goes on"
    registry.append(tmp_path, lambda past: RegistryEvent("held", challenger.id, "the rule"))
    waits = planned(small, tmp_path, monkeypatch, "1994-03-03T18")
    assert waits["experiment"] is None and "is the end of data needed" in waits["message"]
    assert planned(small, tmp_path, monkeypatch, "1994-03-04T00")["experiment"] is not None


def test_the_comparison_lies_after_all_the_champion_was_chosen_by(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Period.model_validate({"start": "1994-02-20T00", "end": "1994-03-10T00"})
    seen = {"training": str(small.data.training), "validation": str(late)}
    registry.register(tmp_path, trained(small, periods=seen), "test")
    done = planned(small, tmp_path, monkeypatch, "1994-03-05T00")
    assert done["experiment"] is None and "after 1994-03-10T00" in done["message"]
