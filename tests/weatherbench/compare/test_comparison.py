"""Two forecasts compared: paired, refused where numbers mean different things, and honest about chance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphufs.cli.main import main
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.storage.paths import Paths
from graphufs.weatherbench.compare.comparison import Side, compare
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.one_member import FROM
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState

TIMES = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]").astype("datetime64[ns]")
AXES = Axes(
    ("squared_error", "absolute_error"),
    tuple(np.arange(1, 4) * np.timedelta64(24, "h").astype("timedelta64[ns]")),
    (Channel("temperature", 500.0), Channel("surface_pressure")),
    ("global", "tropics"),
)
ATTRIBUTES = {
    "truth_name": "replay",
    "truth": "made up",
    "grid": "6x4",
    "vertical": "pressure levels",
    "climatology_period": "x",
    "climatology_window_days": 61,
}


def scores_of(
    offset: float, times: np.ndarray = TIMES, axes: Axes = AXES, seed: int = 0, **attributes: object
) -> Scores:
    """Scores whose squared errors are noise around 4 + offset."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).normal(size=(len(TIMES), 1, 1, 1, 1))
    state = ScoreState(axes)
    for at, time in enumerate(times):
        noise = 0.3 * shared[at] + 0.1 * rng.normal(size=axes.shape)
        state.update(time, 4 + offset + noise)
    units = {"temperature": {"units": "K"}, "surface_pressure": {"units": "Pa"}}
    return Scores.from_states({"emulator": state}, ATTRIBUTES | attributes, units)


def test_a_better_forecast_is_significantly_better_and_one_alike_is_not() -> None:
    found = compare(Side("a", scores_of(-1.0)), Side("b", scores_of(0.0, seed=1)))
    np.testing.assert_allclose(found.percent, 100 * (np.sqrt(3) / 2 - 1), atol=1.5)
    assert found.significant.all() and (found.better == 1).all() and found.tests == 12
    alike = compare(Side("a", scores_of(0.0)), Side("b", scores_of(0.0, seed=1)), control="fdr")
    assert not alike.significant.any()
    assert (compare(Side("b", scores_of(0.0)), Side("a", scores_of(-1.0))).better == -1).all()


def test_a_single_forecast_is_compared_with_an_ensemble_as_one_member() -> None:
    members = replace(AXES, statistics=(*AXES.statistics, *FROM))
    ensemble, single = scores_of(-1.0, axes=members), scores_of(0.0, seed=1)
    found = compare(Side("ensemble", ensemble), Side("single", single), "crps")
    np.testing.assert_allclose(found.of_b, single.states()["emulator"].finalize(["mae"])["mae"], rtol=1e-12)
    np.testing.assert_allclose(found.of_a, ensemble.states()["emulator"].finalize(["crps"])["crps"], rtol=1e-12)
    assert found.significant.all() and (found.better == 1).all()
    with pytest.raises(UserError, match="spread_skill does not say which forecast is better"):
        compare(Side("a", ensemble), Side("b", ensemble), "spread_skill")
    with pytest.raises(UserError, match="brier_score_QUANTILE"):
        compare(Side("a", ensemble), Side("b", ensemble), "brier_score")


def test_the_scores_are_those_over_common_initial_times_and_the_others_are_named() -> None:
    a, b = scores_of(0.0, TIMES[:40]), scores_of(0.0, TIMES[10:], seed=1)
    found = compare(Side("a", a), Side("b", b))
    np.testing.assert_array_equal(found.initial_times, TIMES[10:40])
    np.testing.assert_array_equal(found.only_a, TIMES[:10])
    np.testing.assert_array_equal(found.only_b, TIMES[40:])
    expected = a.states()["emulator"].select(TIMES[10:40]).finalize(["rmse"])["rmse"]
    np.testing.assert_allclose(found.of_a, expected, rtol=1e-12)
    with pytest.raises(UserError, match="7 initial times are too few"):
        compare(Side("a", scores_of(0.0, TIMES[:17])), Side("b", b))


def test_what_only_one_was_scored_on_is_left_out_and_told() -> None:
    other = Axes(AXES.statistics, AXES.leads[:2], AXES.channels[::-1], ("tropics",))
    found = compare(Side("a", scores_of(0.0)), Side("b", scores_of(0.0, axes=other)))
    assert found.channels == AXES.channels and found.regions == ("tropics",) and len(found.leads) == 2
    assert set(found.left_out) == {"leads of a alone: 72 h", "regions of a alone: global"}
    assert found.of_a.shape == (2, 2, 1)
    strange = Axes(AXES.statistics, AXES.leads, (Channel("specific_humidity"),), AXES.regions)
    state = ScoreState(strange)
    for time in TIMES:
        state.update(time, np.ones(strange.shape))
    alone = Scores.from_states({"emulator": state}, ATTRIBUTES, {})
    with pytest.raises(UserError, match="no channels in common"):
        compare(Side("a", scores_of(0.0)), Side("b", alone))


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("grid", "64x32", "grid"),
        ("vertical", "native model layers", "vertical"),
        ("truth_name", "era5", "truth"),
        ("climatology_period", "y", "climatology"),
    ],
)
def test_numbers_that_mean_different_things_are_refused(attribute: str, value: str, words: str) -> None:
    sides = Side("a", scores_of(0.0)), Side("b", scores_of(0.0, seed=1, **{attribute: value}))
    metric = "rmse"
    if attribute.startswith("climatology"):  # which only ACC depends on
        compare(*sides)
        metric = "acc"
    with pytest.raises(UserError, match=rf"cannot be compared: they differ in {words}"):
        compare(*sides, metric)
    if attribute == "truth_name":
        compare(*sides, allow=["truth"])


def test_a_metric_without_better_and_an_unknown_forecast_are_refused() -> None:
    with pytest.raises(UserError, match="bias does not say which forecast is better; choose rmse"):
        compare(Side("a", scores_of(0.0)), Side("b", scores_of(0.0)), "bias")
    with pytest.raises(UserError, match="b has no forecast persistence, only emulator"):
        compare(Side("a", scores_of(0.0)), Side("b", scores_of(0.0), "persistence"))


def test_false_discoveries_are_held_where_single_tests_find_some() -> None:
    axes = Axes(("squared_error",), AXES.leads, tuple(Channel(f"x{n}") for n in range(100)), ("global",))
    rng = np.random.default_rng(3)
    pair = []
    for _ in range(2):
        state = ScoreState(axes)
        for time in TIMES:
            state.update(time, 4 + rng.normal(size=axes.shape))
        pair.append(Scores.from_states({"emulator": state}, ATTRIBUTES, {}))
    sides = Side("a", pair[0]), Side("b", pair[1])
    assert 3 <= compare(*sides).significant.sum() <= 35
    assert not compare(*sides, control="fdr").significant.any()


def test_the_command_takes_experiments_run_folders_and_baselines(
    scored: tuple[Experiment, Path, Scores], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, root, scores = scored
    store = str(Paths(experiment, root).scores)
    with pytest.raises(SystemExit) as ended:
        main(["compare", store, f"{store}#persistence", "--json", "--root", str(root), "--output", str(tmp_path)])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "comparison.json").read_text())
    first = found["differences"][0]
    assert first["a"] == pytest.approx(scores.at("rmse", "emulator", scores.channels[0], scores.leads[0]), rel=1e-5)
    assert found["b"].startswith("persistence of ") and found["initial_times"] == len(scores.initial_times)
    page = (tmp_path / "comparison.html").read_text()
    assert page.count("<svg") == 1 + len(scores.channels) and "http" not in page
    with pytest.raises(SystemExit) as ended:
        main(["compare", store, str(Paths(experiment, root).run / "nothing"), "--root", str(root)])
    assert ended.value.code == 2
    assert "nor a registered model" in capsys.readouterr().err
