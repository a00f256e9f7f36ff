"""Which initial times there are: given ones, and those of nights."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.nightly.initial_times import SourceTimes, nightly_times
from graphufs.replay.times import hours, instant, wanted_stamps
from graphufs.storage.paths import Paths
from tests.conftest import TINY
from tests.nightly.conftest import at

SHIPPED = sorted(TINY.parent.glob("*.yaml"))


def changed(experiment: Experiment, *overrides: str) -> Experiment:
    return loading.parse(loading.dump(experiment), overrides)


def test_given_initial_times_are_taken_and_only_their_windows_are_prepared_in_addition(tiny):
    far = (datetime(1994, 1, 21, 6), datetime(1994, 2, 10, 12))
    given = at(tiny, far)
    assert given.initial_times == far
    assert str(given.forecast_period) == "1994-01-21T00..1994-02-11T12"
    added = np.setdiff1d(wanted_stamps(given), wanted_stamps(tiny))
    windows = [instant(time) + np.arange(-1, 5) * hours(6) for time in far]
    assert np.array_equal(added, np.concatenate(windows))


def test_given_initial_times_that_are_the_periodic_ones_name_the_same_forecasts(tiny):
    assert Paths(at(tiny, tiny.initial_times), Path()).hashes == Paths(tiny, Path()).hashes
    fewer = Paths(at(tiny, tiny.initial_times[1:]), Path()).hashes
    whole = Paths(tiny, Path()).hashes
    assert {name for name in whole if whole[name] != fewer[name]} == {"forecasts", "scores"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["forecast.initial_times=[1994-01-13T18, 1994-01-13T06]"], "must ascend"),
        (["forecast.initial_times=[1994-01-13T06, 1994-01-13T06]"], "must ascend"),
        (["forecast.initial_times=[1994-01-13T07]"], "1994-01-13T07, which is not a whole number of 6h steps"),
        (["forecast.initial_times=[]"], "forecast.initial_times"),
        (
            ["forecast.initial_times=[1994-01-13T06]", "forecast.period={start: 1994-01-13T00, end: 1994-01-15T00}"],
            "cannot both be given",
        ),
        (["nightly.until=1994-01-13T00"], "must come after the evaluation period's start 1994-01-13T00"),
        (["nightly.at_most=0"], "nightly.at_most"),
        (["nightly.days_per_night=0"], "nightly.days_per_night"),
        (["nightly.night=tonight"], "nightly.night"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(overrides, words):
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        loading.load(TINY, overrides)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_nightly_section_is_part_of_no_name(path):
    plain = loading.load(path)
    other = changed(plain, "nightly={at_most: 9, until: 2030-01-01T00, days_per_night: 3}")
    assert other.nightly.at_most == 9 and Paths(other, Path()).hashes == Paths(plain, Path()).hashes


def test_nights_begin_with_the_evaluation_and_end_where_the_last_lead_does(tiny):
    until = changed(tiny, "nightly.until=1994-01-20T18")
    times = nightly_times(until)
    assert times[0] == datetime(1994, 1, 13, 6) and times[-1] == datetime(1994, 1, 19, 18)
    assert {later - earlier for earlier, later in zip(times, times[1:], strict=False)} == {timedelta(hours=12)}
    assert nightly_times(changed(until, "nightly.until=1994-01-20T17"))[-1] == datetime(1994, 1, 19, 6)
    assert nightly_times(changed(tiny, "nightly.until=null")) == tuple(tiny.initial_times)


@pytest.mark.parametrize(
    ("overrides", "left_out"),
    [
        (["data.validation={start: 1994-01-25T00, end: 1994-01-26T00}"], ("1994-01-24T06", "1994-01-26T06")),
        (
            ["normalization.period={start: 1994-01-25T00, end: 1994-01-26T00}"],
            ("1994-01-24T06", "1994-01-26T06"),
        ),
        (
            ["normalization.period={start: 1994-01-25T00, end: 1994-01-26T00}", "data.allow_overlap=[normalization]"],
            None,
        ),
        (
            ["data.validation={start: 1994-01-25T00, end: 1994-01-26T00}", "data.allow_overlap=[validation]"],
            None,
        ),
    ],
)
def test_nights_leave_out_what_touches_a_time_the_model_was_made_with(tiny, overrides, left_out):
    whole = nightly_times(tiny)
    times = nightly_times(changed(tiny, *overrides))
    if left_out is None:
        assert times == whole
        return
    first, last = map(datetime.fromisoformat, left_out)
    # 24 h after the initial time reach 25T00 from 24T00 on; 6 h before it the period has ended from 26T12 on
    assert set(whole) - set(times) == {time for time in whole if first <= time <= last}
    assert times and all(time < first or time > last for time in times)


def test_an_initial_time_needs_each_stamp_from_its_first_input_frame_to_its_last_lead(tiny):
    time = datetime(1994, 1, 20, 6)
    needed = instant(time) + np.arange(-1, 5) * hours(6)
    nothing = np.empty(0, "datetime64[ns]")
    assert SourceTimes(needed, nothing).lacks(tiny, [time]) == {}
    for position in range(needed.size):
        lacking = SourceTimes(np.delete(needed, position), nothing).lacks(tiny, [time])
        assert lacking == {time: f"no data at {str(needed[position])[:13]}"}
        flawed = SourceTimes(needed, needed[position : position + 1]).lacks(tiny, [time])
        assert flawed == {time: f"missing values at {str(needed[position])[:13]}"}
