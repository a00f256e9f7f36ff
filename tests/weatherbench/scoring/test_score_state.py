"""The mergeable state."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphufs.errors import UserError
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.metrics import METRICS, STATISTICS
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState, require_same_times

LEADS = (np.timedelta64(6, "h"), np.timedelta64(12, "h"))
AXES = Axes(tuple(STATISTICS), LEADS, (Channel("temperature", 500.0), Channel("surface_pressure")), ("global",))
TIMES = np.datetime64("2020-01-01T00", "ns") + np.arange(12) * np.timedelta64(18, "h")
VALUES = np.abs(np.random.default_rng(0).normal(size=(len(TIMES), *AXES.shape))) * 1e5


def state_of(indices: list[int]) -> ScoreState:
    state = ScoreState(AXES)
    for index in indices:
        state.update(TIMES[index], VALUES[index])
    return state


WHOLE = state_of(list(range(len(TIMES))))


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(len(TIMES))), st.sets(st.integers(1, len(TIMES) - 1), max_size=4))
def test_parts_merged_in_any_order_are_the_whole(order: list[int], cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(TIMES)]
    parts = [state_of(order[first:last]) for first, last in pairwise(edges)]
    merged = parts[-1]
    for part in parts[:-1]:
        merged = part.merge(merged)
    np.testing.assert_array_equal(merged.initial_times, TIMES)
    for name, score in WHOLE.finalize().items():
        np.testing.assert_allclose(merged.finalize()[name], score, rtol=1e-12)
    assert merged.checksum() == WHOLE.checksum()


def test_a_later_night_is_added_without_the_earlier_ones_fields() -> None:
    tonight = state_of([11])
    np.testing.assert_array_equal(state_of(list(range(11))).merge(tonight).stacked(), WHOLE.stacked())


def test_merging_leaves_both_parts_as_they_were() -> None:
    first, second = state_of([0, 1]), state_of([2])
    first.merge(second)
    assert len(first) == 2 and len(second) == 1


def test_the_same_initial_time_counts_once() -> None:
    merged = state_of([0, 1, 2]).merge(state_of([1, 2, 3]))
    np.testing.assert_array_equal(merged.initial_times, TIMES[:4])


def test_an_initial_time_with_nan_merges_with_itself() -> None:
    state = ScoreState(AXES)
    state.update(TIMES[0], np.full(AXES.shape, np.nan))
    assert len(state.merge(state)) == 1


def test_contradicting_results_for_an_initial_time_are_refused() -> None:
    other = ScoreState(AXES)
    other.update(TIMES[1], VALUES[1] * 1.0001)
    with pytest.raises(UserError, match="2020-01-01T18 has been scored before with another result"):
        state_of([0, 1]).merge(other)


def test_states_of_other_leads_are_not_merged() -> None:
    other = ScoreState(Axes(AXES.statistics, LEADS[:1], AXES.channels, AXES.regions))
    with pytest.raises(UserError, match="leads"):
        WHOLE.merge(other)


@pytest.mark.parametrize(
    ("changed", "named"), [({"convention": "WeatherBench-X"}, "convention"), ({"skipna": True}, "skipna")]
)
def test_states_of_another_convention_or_nan_rule_are_not_merged(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=f"agree in {named}"):
        WHOLE.merge(ScoreState(replace(AXES, **changed)))


def test_the_convention_decides_whether_the_acc_is_a_mean_of_ratios_or_a_ratio_of_means() -> None:
    other = ScoreState(replace(AXES, convention="WeatherBench-X"))
    for time, values in zip(TIMES, VALUES, strict=True):
        other.update(time, values)
    a = WHOLE.averages()
    product, forecast, truth = (a[name] for name in METRICS["acc"].statistics)
    np.testing.assert_allclose(WHOLE.finalize()["acc"], (product / np.sqrt(forecast * truth)).mean(axis=0))
    ratio = product.mean(axis=0) / np.sqrt(forecast.mean(axis=0) * truth.mean(axis=0))
    np.testing.assert_allclose(other.finalize()["acc"], ratio)


def test_nan_is_left_out_over_time_where_it_was_in_space() -> None:
    axes = replace(AXES, skipna=True)
    state = ScoreState(axes)
    state.update(TIMES[0], np.full(axes.shape, np.nan))
    state.update(TIMES[1], np.full(axes.shape, 4.0))
    assert (state.finalize(["rmse"])["rmse"] == 2).all()
    assert np.isnan(state.finalize(["rmse"], skipna=False)["rmse"]).all()


def test_only_the_metrics_that_the_statistics_allow_are_finished() -> None:
    state = ScoreState(Axes(("squared_error",), LEADS, AXES.channels, ("global",)))
    state.update(TIMES[0], np.ones(state.axes.shape))
    assert set(state.finalize()) == {"rmse", "mse", "rmse_sqrt_before_time_avg"}
    with pytest.raises(UserError, match="cannot tell acc, only rmse"):
        state.finalize(["acc"])


def test_averages_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(UserError, match="shape"):
        ScoreState(AXES).update(TIMES[0], VALUES[0][:, :1])


def test_an_empty_state_has_no_scores() -> None:
    with pytest.raises(UserError, match="no initial time"):
        ScoreState(AXES).finalize()


def test_the_mean_of_the_scores_by_initial_time_is_the_score() -> None:
    by_time = WHOLE.by_initial_time(["mse", "acc"])
    for name, values in by_time.items():
        assert values.shape == (len(TIMES), *AXES.shape[1:])
        np.testing.assert_allclose(values.mean(axis=0), WHOLE.finalize([name])[name])


def test_a_part_can_be_selected() -> None:
    np.testing.assert_array_equal(WHOLE.select(TIMES[[3, 5]]).stacked(), VALUES[[3, 5]])


def test_forecasts_scored_on_different_initial_times_are_not_compared() -> None:
    with pytest.raises(UserError, match="different initial times"):
        require_same_times({"emulator": WHOLE, "persistence": state_of([0, 1])})


def test_every_metric_is_finished() -> None:
    assert set(WHOLE.finalize()) == set(METRICS)
