from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphufs.config.base import Period
from graphufs.replay.times import by_month, from_runs, listing, stamps_in, to_runs, wanted_stamps
from tests.support.experiments import experiment


def stamps_at(hours: set[int]) -> np.ndarray:
    return np.sort(np.datetime64("1993-12-31T18", "ns") + np.array(sorted(hours), "timedelta64[h]"))


@given(st.sets(st.integers(0, 400).map(lambda count: 6 * count)))
def test_runs_hold_every_stamp_and_nothing_else(hours: set[int]) -> None:
    stamps = stamps_at(hours)
    runs = to_runs(stamps, 6)
    assert np.array_equal(from_runs(runs, 6), stamps)
    assert len(runs) <= max(len(stamps), 0)


@given(st.sets(st.integers(0, 3000).map(lambda count: 3 * count), min_size=1))
def test_months_hold_every_stamp_once_and_never_two_months(hours: set[int]) -> None:
    months = by_month(stamps_at(hours))
    assert np.array_equal(np.concatenate(months), stamps_at(hours))
    assert all(np.unique(month.astype("datetime64[M]")).size == 1 for month in months)
    assert len({month[0].astype("datetime64[M]") for month in months}) == len(months)


def test_both_ends_of_a_period_are_its_stamps() -> None:
    stamps = stamps_in(Period(start="1994-01-01T00", end="1994-01-02T00"), 6)
    assert stamps.size == 5
    assert stamps[-1] == np.datetime64("1994-01-02T00")


def test_wanted_stamps_leave_out_what_lies_between_disjoint_periods() -> None:
    chosen = experiment("x", evaluation=("1995-06-01T00", "1995-06-10T00"))
    stamps = wanted_stamps(chosen)
    assert not ((stamps > np.datetime64("1994-01-08T18")) & (stamps < np.datetime64("1995-06-01T00"))).any()
    assert np.unique(stamps).size == stamps.size


def test_long_lists_of_stamps_are_cut_and_counted() -> None:
    assert listing(stamps_at({0, 6, 12, 18, 24, 30, 36})).endswith("1994-01-01T18 and 2 more")
