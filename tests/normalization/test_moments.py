from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphufs.normalization.accumulate import Accumulator
from graphufs.normalization.moments import FieldMoments, Moments, merge_states

SHAPE = (2, 6, 10)


def weather(stamps: int, spread: float = 900.0, seed: int = 0) -> np.ndarray:
    """Surface pressure and a temperature, float32 [time, 2, lat, lon]; pressure varies by `spread` around 1e5 Pa."""
    random = np.random.default_rng(seed)
    frames = random.standard_normal((stamps, *SHAPE))
    frames[:, 0] = 101325 + spread * frames[:, 0]
    frames[:, 1] = 280 + 10 * frames[:, 1]
    return frames.astype(np.float32)


def moments_of(frames: np.ndarray, first: int, last: int, area: np.ndarray | None = None) -> FieldMoments:
    """Moments of frames first..last-1, with the difference into each but the very first."""
    accumulator = Accumulator(np.ones(SHAPE[1]) if area is None else area, np.full(2, -1))
    for index in range(first, last):
        accumulator.update(frames[index], frames[index - 1] if index else None)
    return accumulator.moments()


def relative(one: FieldMoments, other: FieldMoments) -> float:
    pairs = zip((*one.values.finalize(), *one.differences.finalize()),
                (*other.values.finalize(), *other.differences.finalize()), strict=True)  # fmt: skip
    means, deviations = 0.0, 0.0
    for index, (a, b) in enumerate(pairs):
        if index == 2:  # a mean difference is near zero: its error counts against the deviation
            means = max(means, float(np.max(np.abs(a - b) / one.differences.finalize()[1])))
        else:
            deviations = max(deviations, float(np.max(np.abs(a - b) / np.abs(b))))
    return max(means, deviations)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_split_and_any_order_of_merging_agree_to_1e_12(data: st.DataObject) -> None:
    spread = data.draw(st.sampled_from([0.22, 5.0, 900.0]))
    frames = weather(24, spread)
    whole = moments_of(frames, 0, 24)
    cuts = sorted(data.draw(st.sets(st.integers(1, 23), max_size=8)))
    parts = [moments_of(frames, a, b) for a, b in zip([0, *cuts], [*cuts, 24], strict=True)]
    order = data.draw(st.permutations(range(len(parts))))
    merged = functools.reduce(FieldMoments.merge, [parts[index] for index in order])
    assert relative(merged, whole) < 1e-12


def test_merging_is_associative_to_rounding() -> None:
    a, b, c = (moments_of(weather(8, seed=seed), 0, 8) for seed in range(3))
    assert relative(a.merge(b).merge(c), a.merge(b.merge(c))) < 1e-13


@pytest.mark.parametrize("spread", [0.22, 900.0])
def test_surface_pressure_has_the_variance_two_passes_in_double_precision_give(spread: float) -> None:
    frames = weather(50, spread)
    exact = frames.astype(np.float64)
    mean, std = moments_of(frames, 0, 50).values.finalize()
    assert np.allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-15)
    assert np.allclose(std, exact.std(axis=(0, 2, 3)), rtol=1e-12)
    difference, spread_of_it = moments_of(frames, 0, 50).differences.finalize()
    assert np.allclose(spread_of_it, np.diff(exact, axis=0).std(axis=(0, 2, 3)), rtol=1e-12)
    assert np.allclose(difference, np.diff(exact, axis=0).mean(axis=(0, 2, 3)), atol=1e-12 * exact[:, 0].mean())


def test_the_mean_difference_is_taken_out_of_the_deviation_of_differences() -> None:
    frames = weather(20) + np.arange(20, dtype=np.float32)[:, None, None, None] * 100
    _, std = moments_of(frames, 0, 20).differences.finalize()
    assert np.allclose(std, np.diff(frames.astype(np.float64), axis=0).std(axis=(0, 2, 3)), rtol=1e-12)


def test_area_weights_count_rows_by_their_area() -> None:
    frames, area = weather(9), np.array([0.2, 1.0, 1.8, 1.8, 1.0, 0.2])
    mean, std = moments_of(frames, 0, 9, area).values.finalize()
    weights = np.broadcast_to(area[:, None], SHAPE[1:])
    exact = frames.astype(np.float64)
    expected = np.stack([np.average(exact[:, k], weights=np.broadcast_to(weights, (9, 6, 10))) for k in range(2)])
    squared = [
        np.average((exact[:, k] - expected[k]) ** 2, weights=np.broadcast_to(weights, (9, 6, 10))) for k in range(2)
    ]
    assert np.allclose(mean, expected, rtol=1e-14)
    assert np.allclose(std, np.sqrt(squared), rtol=1e-12)


def test_volume_weights_are_the_thickness_of_that_stamp_and_the_mean_of_two_for_differences() -> None:
    frames = weather(9)
    random = np.random.default_rng(5)
    thickness = -random.uniform(20, 500, (9, 1, 6, 10)).astype(np.float32)  # delz is negative
    area = np.array([0.2, 1.0, 1.8, 1.8, 1.0, 0.2])
    joined = np.concatenate([frames, thickness], axis=1)
    accumulator = Accumulator(area, np.array([-1, 2, -1]))  # pressure by area, temperature by volume
    for index in range(9):
        accumulator.update(joined[index], joined[index - 1] if index else None)
    exact, depth = frames[:, 1].astype(np.float64), np.abs(thickness[:, 0].astype(np.float64))
    weight = area[:, None] * depth
    mean, std = accumulator.moments().values.finalize()
    expected = np.average(exact, weights=weight)
    assert mean[1] == pytest.approx(expected, rel=1e-14)
    assert std[1] == pytest.approx(np.sqrt(np.average((exact - expected) ** 2, weights=weight)), rel=1e-12)
    assert mean[0] == pytest.approx(
        np.average(frames[:, 0].astype(np.float64).mean(axis=(0, 2)), weights=area), rel=1e-14
    )
    difference, between = np.diff(exact, axis=0), (weight[1:] + weight[:-1]) / 2
    shift = np.average(difference, weights=between)
    _, spread = accumulator.moments().differences.finalize()
    assert spread[1] == pytest.approx(np.sqrt(np.average((difference - shift) ** 2, weights=between)), rel=1e-12)


def test_land_counts_nothing() -> None:
    frames = weather(6)
    frames[:, :, 2:4, 3:7] = np.nan
    mean, std = moments_of(frames, 0, 6).values.finalize()
    exact = frames.astype(np.float64)
    assert np.allclose(mean, np.nanmean(exact, axis=(0, 2, 3)), rtol=1e-14)
    assert np.allclose(std, np.nanstd(exact, axis=(0, 2, 3)), rtol=1e-12)
    assert moments_of(frames, 0, 6).values.weight.tolist() == [6 * (60 - 8)] * 2
    assert moments_of(frames, 0, 6).differences.weight.tolist() == [5 * (60 - 8)] * 2


def test_nothing_merges_with_anything_and_finalizes_to_nan() -> None:
    some = moments_of(weather(4), 0, 4)
    nothing = Moments(*np.zeros((4, 2)))
    merged = FieldMoments(nothing, nothing).merge(some)
    assert relative(merged, some) == 0
    assert np.isnan(nothing.finalize()).all()


def test_states_merge_by_variable_and_keep_what_only_one_has() -> None:
    a, b = moments_of(weather(4), 0, 4), moments_of(weather(4, seed=1), 0, 4)
    merged = merge_states({"both": a, "mine": a}, {"both": b, "theirs": b})
    assert relative(merged["both"], a.merge(b)) == 0
    assert merged["mine"] is a and merged["theirs"] is b
