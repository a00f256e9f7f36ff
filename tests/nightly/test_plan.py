"""What a night plans: on the embedded world, and on a real store with holes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from graphufs.cli import main
from graphufs.config import loading
from graphufs.config.base import format_time
from graphufs.config.experiment import Experiment
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.nightly.initial_times import nightly_times
from graphufs.registry import registry
from graphufs.registry.registry import RegistryEvent
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train.resume import Position
from graphufs.weatherbench.results.scores import Scores
from tests.conftest import TINY
from tests.nightly.conftest import at, store_of
from tests.support import idealised


def plan(root, *overrides, **asked):
    return run_step("plan_nightly", loading.load(TINY, overrides), root, request=loading.request(asked))


def test_without_a_model_the_plan_says_what_to_do(tiny, finished_root):
    result = run_step("plan_nightly", tiny, finished_root)
    assert (result["model"], result["initial_times"], result["experiment"]) == (None, [], None)
    assert "graphufs register" in result["message"]


def test_the_oldest_unscored_initial_times_come_first_and_no_more_than_asked_for(
    tiny, registered_root, copy_of_root, night
):
    root = copy_of_root(registered_root)
    first = plan(root, "nightly.at_most=3")
    # the world ends at 1994-01-20T12, a day after the last initial time that has its truth
    assert first["initial_times"] == ["1994-01-13T06", "1994-01-13T18", "1994-01-14T06"]
    assert (first["scored"], first["remaining"], first["holes"]) == (0, 10, [])
    run_step("record_nightly", night(root, (0, 2, 3)), root)
    then = plan(root, "nightly.at_most=3")
    assert then["initial_times"] == ["1994-01-13T18", "1994-01-15T06", "1994-01-15T18"]
    assert (then["scored"], then["remaining"]) == (3, 7)


def test_the_planned_experiment_is_the_models_own_with_tonights_times(tiny, registered_root, copy_of_root):
    root = copy_of_root(registered_root)
    wanted = ["nightly.at_most=2", "training.seed=7", "forecast.lead_time=48h"]
    result = plan(root, *wanted)
    planned = loading.parse(result["experiment"])
    assert planned.training.seed == 0 and planned.forecast.lead_time == 48  # how far a night looks is the night's
    assert planned.nightly == loading.load(TINY, wanted).nightly
    assert [format_time(time) for time in planned.initial_times] == result["initial_times"]
    assert Paths(planned, root).run == Paths(tiny, root).run


def test_options_of_storage_come_from_the_request(tiny, registered_root, copy_of_root):
    result = plan(copy_of_root(registered_root), "data.source.storage_options={token: anon}")
    assert loading.parse(result["experiment"]).data.source.storage_options == {"token": "anon"}


def test_when_all_is_scored_the_next_data_that_are_needed_are_named(tiny, registered_root, copy_of_root, night):
    root = copy_of_root(registered_root)
    run_step("record_nightly", tiny, root)
    result = plan(root, "nightly.until=1994-01-19T00")
    assert result["initial_times"] == [] and result["experiment"] is None and result["scored"] == 10
    assert "all initial times up to nightly.until are scored" in result["message"]
    result = plan(root, "nightly.at_most=9")
    assert result["initial_times"] == ["1994-01-18T06", "1994-01-18T18", "1994-01-19T06"]


def test_the_champion_is_scored_and_a_chosen_model_in_its_place(tiny, registered_root, copy_of_root):
    root = copy_of_root(registered_root)
    (there,) = registry.models(root)
    other = registry.RegisteredModel(**{**there.to_json(), "id": "tiny-ffffffffffff-16", "run": "ffffffffffff"})
    registry.register(root, other, "test")
    with pytest.raises(UserError, match="tiny-ffffffffffff-16 was trained with another version"):
        plan(root)  # the newest candidate
    registry.append(root, lambda past: RegistryEvent("promoted", there.id, "test"))
    assert plan(root)["model"] == there.id
    with pytest.raises(UserError, match="tiny-ffffffffffff-16 was trained with another version"):
        plan(root, model=other.id)
    with pytest.raises(UserError, match="no model 'best'"):
        plan(root, model="best")


@pytest.mark.long  # a night runs among the faults, and test_record adds up
def test_whole_nights_score_what_the_evaluation_scored_and_go_on_with_the_world(
    tiny, registered_root, copy_of_root, tmp_path, capsys
):
    root = copy_of_root(registered_root)
    path = tmp_path / "tiny.yaml"
    for day, total in (("01", 10), ("02", 17), ("02", 17)):
        path.write_text(loading.dump(loading.load(TINY, ["nightly.at_most=10"])))
        with pytest.raises(SystemExit) as ending:
            main.main(["nightly", str(path), "--night", f"2026-03-{day}", "--root", str(root), "--json"])
        assert ending.value.code == 0
        results = {result["step"]: result for result in json.loads(capsys.readouterr().out)}
        scores = store_of(tiny, root).open()
        assert scores is not None and len(scores.initial_times) == total
        if day == "01":
            at_once = Scores.open(Paths(tiny, root).scores)
            assert scores.checksums == at_once.checksums
            assert scores.dataset.drop_attrs(deep=False).identical(at_once.dataset.drop_attrs(deep=False))
    assert list(results) == ["extend_world", "plan_nightly"] and results["extend_world"]["status"] == "unchanged"
    assert "nothing new: the next initial time, 1994-01-21T18, needs data up to" in results["plan_nightly"]["message"]


# a real store with holes

MISSING, FLAWED = "1995-02-10T00", "1995-03-05T12"


@pytest.fixture(scope="module")
def holed_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """A registered model on a store that lacks one stamp and has NaN at another, with its evaluation's scores."""
    experiment, root = idealised.prepared_root(tmp_path_factory.mktemp("holed"), flawed=(FLAWED,), missing=(MISSING,))
    paths = Paths(experiment, root)
    meta = {"total": 5, "position": asdict(Position(5)), "provenance": {}}
    checkpoint.save(paths.checkpoints, 5, {}, {}, meta)
    idealised.write_forecasts(experiment, root)
    run_step("evaluate", experiment, root)
    run_step("register", experiment, root)
    return experiment, root


@pytest.fixture
def holed(holed_once: tuple[Experiment, Path], tmp_path: Path) -> tuple[Experiment, Path]:
    """The same in a root of the test's own."""
    return holed_once[0], Path(shutil.copytree(holed_once[1], tmp_path / "root"))


def touching(experiment: Experiment, stamp: str) -> list[str]:
    """The nightly initial times whose window holds a stamp."""
    time = datetime.fromisoformat(stamp)
    before, after = timedelta(hours=6), timedelta(hours=240)
    return [format_time(t) for t in nightly_times(experiment) if t - before <= time <= t + after]


@pytest.mark.long
def test_holes_of_the_source_are_not_planned_but_told(holed):
    experiment, root = holed
    result = run_step("plan_nightly", loading.parse(loading.dump(experiment), ["nightly.at_most=100"]), root)
    holes = {hole["initial_time"]: hole["why"] for hole in result["holes"]}
    lacking, flawed = touching(experiment, MISSING), touching(experiment, FLAWED)
    assert lacking and flawed and set(holes) == {*lacking, *flawed}
    assert {holes[time] for time in lacking} == {f"no data at {MISSING}"}
    assert {holes[time] for time in flawed} == {f"missing values at {FLAWED}"}
    assert result["initial_times"] == [
        format_time(time) for time in nightly_times(experiment) if format_time(time) not in holes
    ]
    planned = loading.parse(result["experiment"])
    idealised.write_forecasts(planned, root)
    for step in ("prepare", "evaluate"):
        run_step(step, planned, root)
    recorded = run_step("record_nightly", planned, root)
    assert recorded["added"] == len(result["initial_times"]) and recorded["holes"] == result["holes"]
    page = (root / recorded["report"]).read_text()
    assert f"no data at {MISSING}" in page and f"missing values at {FLAWED}" in page
    again = run_step("plan_nightly", experiment, root)
    assert again["initial_times"] == [] and again["holes"] == result["holes"]


@pytest.mark.long  # test_record tells of initial times without a score
def test_an_initial_time_that_turns_out_to_lack_values_when_it_is_scored_is_a_hole(holed):
    experiment, root = holed
    flawed = touching(experiment, FLAWED)[0]
    planned = at(
        experiment, [experiment.initial_times[0], datetime.fromisoformat(flawed), experiment.initial_times[-1]]
    )
    idealised.write_forecasts(planned, root)
    run_step("evaluate", planned, root)
    recorded = run_step("record_nightly", planned, root)
    assert recorded["initial_times"] == 2
    reasons = {hole["initial_time"]: hole["why"] for hole in recorded["holes"]}
    assert reasons[flawed] == f"no usable truth at {FLAWED}"
    assert set(reasons.values()) == {reasons[flawed], "not scored yet"}
