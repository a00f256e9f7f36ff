"""Spatial means and their rules for missing values."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.weatherbench.metrics.spatial_mean import SpatialMean

WEIGHTS = np.array([[[1.0, 2.0], [0.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])  # [region, lat, lon]
FIELD = np.array([[1.0, 2.0], [5.0, 4.0]])


def field(*, at: tuple[int, int], value: float) -> np.ndarray:
    changed = FIELD.copy()
    changed[at] = value
    return changed


def test_the_mean_is_weighted_by_region() -> None:
    np.testing.assert_allclose(SpatialMean(WEIGHTS)(FIELD), [(1 + 4 + 12) / 6, 3.0])


def test_leading_dimensions_are_kept_and_sums_run_in_float64() -> None:
    values = np.broadcast_to(np.float32(16777217.0) + FIELD.astype(np.float32), (3, 4, 2, 2))
    means = SpatialMean(WEIGHTS)(values)
    assert means.shape == (3, 4, 2) and means.dtype == np.float64
    np.testing.assert_allclose(means[2, 3], SpatialMean(WEIGHTS)(values[0, 0].astype(np.float64)), rtol=1e-15)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("skipna", [False, True])
def test_a_point_of_weight_zero_has_no_influence_whatever_its_value(value: float, skipna: bool) -> None:
    mean = SpatialMean(WEIGHTS, skipna=skipna)(field(at=(1, 0), value=value))
    assert mean[0] == pytest.approx(17 / 6)
    assert not np.isfinite(mean[1]) or skipna


def test_a_nan_makes_only_the_regions_nan_that_hold_it() -> None:
    np.testing.assert_array_equal(np.isnan(SpatialMean(WEIGHTS)(field(at=(1, 0), value=np.nan))), [False, True])
    assert np.isnan(SpatialMean(WEIGHTS)(field(at=(0, 0), value=np.nan))).all()


def test_skipna_leaves_nan_out_of_both_sums() -> None:
    means = SpatialMean(WEIGHTS, skipna=True)(field(at=(0, 1), value=np.nan))
    np.testing.assert_allclose(means, [(1 + 12) / 4, (1 + 5 + 4) / 3])


def test_skipna_gives_nan_where_no_point_is_left() -> None:
    assert np.isnan(SpatialMean(WEIGHTS, skipna=True)(np.full((2, 2), np.nan))).all()


@pytest.mark.parametrize("skipna", [False, True])
def test_infinities_stay_infinite(skipna: bool) -> None:
    mean = SpatialMean(WEIGHTS, skipna=skipna)
    np.testing.assert_array_equal(mean(field(at=(0, 0), value=-np.inf)), [-np.inf, -np.inf])
    both = np.array([[np.inf, -np.inf], [0.0, 0.0]])
    assert np.isnan(mean(both)).all()


def test_rows_without_nan_are_untouched_by_neighbours_with_nan() -> None:
    stacked = np.stack([FIELD, field(at=(0, 0), value=np.nan), FIELD])
    means = SpatialMean(WEIGHTS)(stacked)
    np.testing.assert_array_equal(means[0], means[2])
    np.testing.assert_array_equal(means[0], SpatialMean(WEIGHTS)(FIELD))


def test_a_mask_gives_what_skipping_nan_at_the_same_points_gives() -> None:
    land = field(at=(0, 1), value=np.nan)
    masked = WEIGHTS * ~np.isnan(land)
    np.testing.assert_allclose(SpatialMean(masked)(land), SpatialMean(WEIGHTS, skipna=True)(land), rtol=1e-15)


def test_the_callers_array_is_not_changed() -> None:
    values = field(at=(1, 0), value=np.nan)
    SpatialMean(WEIGHTS[:1])(values)
    assert np.isnan(values[1, 0])


@pytest.mark.parametrize("skipna", [False, True])
def test_a_region_without_points_is_nan_and_disturbs_no_other(skipna: bool) -> None:
    mean = SpatialMean(np.stack([WEIGHTS[0], 0 * WEIGHTS[0]]), skipna=skipna)
    for values in (FIELD, field(at=(0, 1), value=np.nan)):
        found = mean(values)
        assert np.isnan(found[1]) and (np.isnan(found[0]) == np.isnan(SpatialMean(WEIGHTS, skipna=skipna)(values)[0]))


def test_skipping_nan_can_be_asked_for_in_a_single_call() -> None:
    mean, values = SpatialMean(WEIGHTS), field(at=(0, 1), value=np.nan)
    np.testing.assert_array_equal(mean(values, skipna=True), SpatialMean(WEIGHTS, skipna=True)(values))
    assert np.isnan(mean(values)).all()
