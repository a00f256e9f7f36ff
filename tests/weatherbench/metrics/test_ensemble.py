"""Formulas of ensembles: hand cases, forms that must agree, missing values, the compiled loop against the plain one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import integrate, stats

from graphufs.errors import UserError
from graphufs.weatherbench.metrics.diagrams import central_reliability, coarser, reliability, roc
from graphufs.weatherbench.metrics.ensemble import (
    FIXED,
    RANK,
    SKILL,
    SPREAD,
    SPREAD_BIASED,
    SQUARED,
    TIES,
    UNBIASED,
    VARIANCE,
    MemberRules,
    fields_at,
)
from graphufs.weatherbench.metrics.ensemble_kernel import _as_single, sorting_network
from graphufs.weatherbench.metrics.gaussian import gaussian_crps
from graphufs.weatherbench.metrics.spatial_mean import SpatialMean

NONE = MemberRules(energy=False)


def of(members: object, truth: object, rules: MemberRules = NONE) -> np.ndarray:
    x, y = np.asarray(members, np.float32), np.asarray(truth, np.float32)
    return fields_at(x, y, np.zeros((0, *y.shape)), rules)


def fair(members: object, truth: object) -> np.ndarray:
    found = of(members, truth)
    return found[SKILL] - found[SPREAD] / 2


def biased(members: object, truth: object) -> np.ndarray:
    found = of(members, truth)
    return found[SKILL] - found[SPREAD_BIASED] / 2


def test_hand_cases() -> None:
    assert fair([1, -1], 0) == 0
    np.testing.assert_allclose([fair([1, 2, 3], 0), biased([1, 2, 3], 0)], [4 / 3, 14 / 9])
    assert fair([5, 5, 5], 2) == biased([5, 5, 5], 2) == 3


def test_two_members_score_as_the_distance_from_their_interval() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 500)).astype("f4"), 2 * rng.normal(size=500).astype("f4")
    expected = np.maximum(0, np.maximum(y - x.max(axis=0), x.min(axis=0) - y))
    np.testing.assert_allclose(fair(x, y), expected, atol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 4, 9])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_pairs_stable_form_and_step_function_give_the_same(size: int, offset: float) -> None:
    rng = np.random.default_rng(size)
    x = np.float32(rng.normal(size=(size, 200)) + offset)
    y = np.float32(rng.normal(size=200) + offset)
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    skill = np.abs(x64 - y64).mean(axis=0)
    pairs = np.mean([np.abs(x64[i] - x64[j]) for i, j in combinations(range(size), 2)], axis=0)
    for alpha, ours in ((0.0, biased(x, y)), (1.0, fair(x, y))):
        excess = (1 - alpha) / size
        stable = np.mean(
            [
                (np.abs(x64[i] - y64) + np.abs(x64[j] - y64) - (1 - excess) * np.abs(x64[i] - x64[j])) / 2
                for i, j in combinations(range(size), 2)
            ],
            axis=0,
        )
        np.testing.assert_allclose(ours, skill - (1 - excess) * pairs / 2, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(ours, stable, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fair(x[::-1], y), fair(x, y), rtol=1e-12, atol=1e-12)
    # the biased one is the integral of (F - step)^2
    points = np.sort(np.append(x64[:, 0], y64[0]))
    middle = (points[1:] + points[:-1]) / 2
    step = ((x64[:, :1] <= middle).mean(axis=0) - (y64[0] <= middle)) ** 2
    np.testing.assert_allclose(biased(x, y)[0], (step * np.diff(points)).sum(), rtol=1e-9)


def test_the_fair_score_does_not_depend_on_the_number_of_members() -> None:
    rng = np.random.default_rng(1)
    exact = float(gaussian_crps(np.zeros(1), np.ones(1), np.full(1, 0.7))[0])
    assert exact == pytest.approx(0.42157, abs=1e-5)
    for size in (2, 4, 16):
        x, y = rng.normal(size=(size, 40_000)), np.full(40_000, 0.7)
        error = fair(x, y).std() / np.sqrt(40_000)
        assert abs(fair(x, y).mean() - exact) < 4 * error
        assert (biased(x, y) - fair(x, y)).mean() == pytest.approx(1 / (size * np.sqrt(np.pi)), rel=0.02)


def test_gaussian_crps_is_the_integral() -> None:
    assert gaussian_crps(np.zeros(3), np.ones(3), np.arange(3.0)) == pytest.approx([0.2336950, 0.6024414, 1.4527918])
    whole, _ = integrate.quad(lambda x: (stats.norm.cdf(x, 1, 2) - (x >= 4)) ** 2, -30, 30, points=[4])
    assert gaussian_crps(np.ones(1), np.full(1, 2.0), np.full(1, 4.0))[0] == pytest.approx(whole, rel=1e-6)
    assert gaussian_crps(np.ones(1), np.zeros(1), np.full(1, 4.0))[0] == 3


@pytest.mark.parametrize("size", [2, 8, 50])
def test_a_calibrated_ensemble_has_as_much_spread_as_error(size: int) -> None:
    rng = np.random.default_rng(size)
    cases = 20_000 + 200_000 // size
    centre = 3 * rng.normal(size=cases)
    found = of(centre + rng.normal(size=(size, cases)), centre + rng.normal(size=cases)).mean(axis=-1)
    assert np.sqrt(found[VARIANCE] / found[UNBIASED]) == pytest.approx(1, abs=0.02)
    assert np.sqrt(found[VARIANCE] / found[SQUARED]) == pytest.approx(np.sqrt(size / (size + 1)), abs=0.02)


def test_the_truth_of_a_calibrated_ensemble_has_any_rank() -> None:
    rng = np.random.default_rng(3)
    found = of(rng.normal(size=(9, 20_000)), rng.normal(size=20_000))
    counts = np.bincount(found[RANK].astype(int), minlength=10)
    assert not found[TIES].any() and stats.chisquare(counts).pvalue > 0.001
    narrow = of(0.5 * rng.normal(size=(9, 20_000)), rng.normal(size=20_000))
    assert stats.chisquare(np.bincount(narrow[RANK].astype(int), minlength=10)).pvalue < 1e-9


def test_missing_members_and_truth() -> None:
    x, y = np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]]), np.array([2.0, 1.0])
    assert np.isnan(of(x, y)[:6, 1]).all() and np.isfinite(of(x, y)[:, 0]).all()
    kept = of(x, y, MemberRules(skipna=True, nominal_size=False, energy=False))
    np.testing.assert_allclose(kept[:6, 1], of([[3.0], [5.0]], [1.0])[:6, 0])
    assert np.isnan(of(x, [np.nan, 1.0], MemberRules(skipna=True, energy=False))[:6, 0]).all()
    without_truth = of(x, [np.nan, 1.0])[:6, 0]  # as in WeatherBench2, spread and variance do not ask for it
    of_members = [SPREAD, SPREAD_BIASED, VARIANCE]
    np.testing.assert_array_equal(without_truth[of_members], of(x, y)[of_members, 0])
    assert np.isnan(without_truth[[SKILL, SQUARED, UNBIASED]]).all()


def test_a_single_member_has_no_spread_and_no_unbiased_error() -> None:
    found = of([[3.0]], [1.0])[:, 0]
    assert found[[SKILL, SPREAD, SPREAD_BIASED, VARIANCE, SQUARED]].tolist() == [2, 0, 0, 0, 4]
    assert np.isnan(found[UNBIASED])
    missing = of([[np.nan]], [1.0])[:, 0]
    assert (
        missing[[SPREAD, SPREAD_BIASED, VARIANCE]].tolist() == [0, 0, 0] and np.isnan(missing[[SKILL, SQUARED]]).all()
    )


@pytest.mark.parametrize("size", range(1, 20))
def test_the_network_sorts(size: int) -> None:
    values = np.random.default_rng(size).integers(0, 9, (size, 40))
    for low, high in sorting_network(size):
        values[[low, high]] = np.minimum(values[low], values[high]), np.maximum(values[low], values[high])
    assert (np.diff(values, axis=0) >= 0).all()


def test_thresholds_between_float32_values_are_compared_as_they_are() -> None:
    limits = np.array([0.1, 0.3, 280.7, -5.2, 1.0, np.nan])
    near = limits.astype(np.float32)
    lower, upper = _as_single(limits)
    for value in (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))):
        np.testing.assert_array_equal(value > lower, value.astype(np.float64) > limits)
        np.testing.assert_array_equal(value < upper, value.astype(np.float64) < limits)


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("rules", [MemberRules(), MemberRules(skipna=True, nominal_size=False, all_pairs=True)])
@pytest.mark.parametrize("missing", [False, True])
def test_sums_over_regions_are_those_of_the_fields(size: int, rules: MemberRules, missing: bool) -> None:
    rng = np.random.default_rng(4)
    weights = np.stack([np.ones((6, 8)), np.where(np.arange(8) < 3, 2.0, 0.0) * np.ones((6, 1)), np.zeros((6, 8))])
    weights[:, 0, 0] = 0.0
    members = rng.integers(0, 5, (2, size, 3, 6, 8)).astype(np.float32)  # many ties
    truth = rng.integers(0, 5, (2, 3, 6, 8)).astype(np.float32)
    limits = rng.integers(0, 5, (2, 2, 6, 8)).astype(np.float64)
    truth[:, :, 0, 0] = np.nan  # without any weight
    if missing:
        members[1, -1, 1, 2, 1] = np.nan
    mean = SpatialMean(weights, skipna=rules.skipna)
    found = mean.of_members(members, truth, limits, 1, rules)
    for lead in range(2):
        fields = fields_at(members[lead, :, 1], truth[lead, 1], limits[lead], rules)
        np.testing.assert_allclose(found.fields[:, lead], mean(fields), rtol=1e-12, atol=1e-12)
    spoilt = missing and not rules.skipna
    for histogram, axes in ((found.ranks, -1), (found.exceedance[0], (-1, -2))):
        whole = histogram[:, :2].sum(axis=axes)
        np.testing.assert_allclose(whole, [[1, 1], [np.nan, np.nan]] if spoilt else np.ones((2, 2)))
    if not missing:
        k = (members[0, :, 1] > limits[0, 0]).sum(axis=0)
        event = truth[0, 1] > limits[0, 0]
        for count in range(size + 1):
            expected = [mean(((k == count) & (event == bool(e))).astype(float))[1] for e in (0, 1)]
            np.testing.assert_allclose(found.exceedance[0, 0, 1, count], expected)


def test_ties_are_shared_out_as_random_ones_are_on_average() -> None:
    x, y = np.array([1, 2, 2, 3], "f4"), np.float32(2)
    found = SpatialMean(np.ones((1, 1, 1))).of_members(
        x.reshape(1, 4, 1, 1, 1), y.reshape(1, 1, 1, 1), np.zeros((1, 0, 1, 1)), 0, NONE
    )
    rng, counts = np.random.default_rng(5), np.zeros(5)
    for _ in range(3000):
        noise = rng.uniform(-0.1, 0.1, 5)
        counts[int((x + noise[:4] < y + noise[4]).sum())] += 1 / 3000
    np.testing.assert_allclose(found.ranks[0, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0], atol=1e-12)
    np.testing.assert_allclose(counts, found.ranks[0, 0], atol=0.04)


def test_the_energy_score_is_that_of_whole_fields() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(4, 5, 6)).astype("f4"), rng.normal(size=(5, 6)).astype("f4")
    squares = {pairs: fields_at(x, y, np.zeros((0, 5, 6)), MemberRules(all_pairs=pairs)) for pairs in (False, True)}
    for all_pairs, chosen in ((True, list(combinations(range(4), 2))), (False, [(0, 1), (1, 2), (2, 3)])):
        norms = np.sqrt(squares[all_pairs][FIXED:].mean(axis=(1, 2)))
        np.testing.assert_allclose(norms[:4], [np.sqrt(((one - y) ** 2).mean()) for one in x], rtol=1e-6)
        np.testing.assert_allclose(norms[4:], [np.sqrt(((x[i] - x[j]) ** 2).mean()) for i, j in chosen], rtol=1e-6)


def test_diagrams_of_counted_cases() -> None:
    rng = np.random.default_rng(7)
    k, event = rng.integers(0, 5, 4000), np.zeros(4000, int)
    event = (rng.random(4000) < k / 4).astype(int)
    shares = np.zeros((5, 2))
    np.add.at(shares, (k, event), 1 / 4000)
    diagram, curve = reliability(shares), roc(shares)
    np.testing.assert_allclose(diagram.observed, [event[k == n].mean() for n in range(5)])
    np.testing.assert_allclose(diagram.frequency, [(k == n).mean() for n in range(5)])
    assert np.abs(diagram.observed - diagram.probability).max() < 0.06
    rank = stats.mannwhitneyu(k[event == 1], k[event == 0]).statistic / (event.sum() * (1 - event).sum())
    assert curve.area == pytest.approx(rank)
    perfect = np.zeros((5, 2))
    perfect[0, 0] = perfect[4, 1] = 0.5
    assert roc(perfect).area == 1 and (curve.hit_rate[0], curve.hit_rate[-1]) == (0, 1)


def test_central_intervals() -> None:
    odd, desired = central_reliability(np.array([0.1, 0.2, 0.4, 0.2, 0.1]))
    np.testing.assert_allclose(odd, [0.4, 0.8, 1.0])
    np.testing.assert_allclose(desired, [0.2, 0.6, 1.0])
    np.testing.assert_allclose(coarser(np.arange(6.0), 3), [1, 5, 9])
    with pytest.raises(UserError, match="6 ranks cannot have 4 bins"):
        coarser(np.zeros(6), 4)
    with pytest.raises(UserError, match="at least three bins"):
        central_reliability(np.array([0.5, 0.5]))
