from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from graphufs.config.base import Period
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import WindowReader
from graphufs.data.prepare import run
from graphufs.errors import UserError
from graphufs.steps import never_stop, no_progress
from graphufs.storage.paths import Paths
from tests.replay.conftest import ABSENT, INVALID
from tests.support.experiments import daily_experiment, experiment, ocean_experiment


@pytest.fixture(scope="module")
def data(daily: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Eighty frames in four segments."""
    root = tmp_path_factory.mktemp("data")
    chosen = daily_experiment(daily)
    run(chosen, root, progress=no_progress, should_stop=never_stop)
    return PreparedData.open(Paths(chosen, root).data)


@pytest.fixture(scope="module")
def gappy(flawed: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Six-hourly frames with one invalid and one missing stamp."""
    root = tmp_path_factory.mktemp("gappy")
    chosen = experiment(flawed, forcings=["dswrf_avetoa", "weasd"])
    run(chosen, root, progress=no_progress, should_stop=never_stop)
    return PreparedData.open(Paths(chosen, root).data)


def test_any_stamps_come_in_the_order_asked_with_repeats(data: PreparedData) -> None:
    frames = data.read(data.stamps)
    order = np.random.default_rng(0).integers(0, data.stamps.size, 200)
    assert np.array_equal(data.read(data.stamps[order]), frames[order])
    assert data.read(data.stamps[:0]).shape == (0, *data.frame_shape)


def test_a_buffer_is_filled_and_returned(data: PreparedData) -> None:
    buffer = np.full((3, *data.frame_shape), np.nan, np.float32)
    stamps = data.stamps[[0, 1, 40]]
    assert data.read(stamps, buffer) is buffer
    assert np.array_equal(buffer, data.read(stamps))


def test_a_row_of_a_larger_batch_may_be_the_buffer(data: PreparedData) -> None:
    batch = np.zeros((4, 3, *data.frame_shape), np.float32)
    data.read(data.stamps[5:8], batch[2])
    assert np.array_equal(batch[2], data.read(data.stamps[5:8]))
    assert not batch[[0, 1, 3]].any()


@pytest.mark.parametrize("wrong", ["shape", "dtype", "order"])
def test_a_buffer_that_does_not_fit_is_refused(data: PreparedData, wrong: str) -> None:
    shape = (2 if wrong == "shape" else 3, *data.frame_shape)
    buffer = np.zeros(shape, np.float64 if wrong == "dtype" else np.float32, order="F" if wrong == "order" else "C")
    with pytest.raises(UserError, match="C-contiguous float32 buffer"):
        data.read(data.stamps[:3], buffer)


def test_stamps_that_are_not_there_are_named_with_the_reason(gappy: PreparedData) -> None:
    with pytest.raises(UserError, match=f"no frame at {ABSENT}: missing in the source"):
        gappy.read(np.array([ABSENT], "datetime64[ns]"))
    with pytest.raises(UserError, match=r"no frame at 2001-01-01T00: not prepared \(run prepare"):
        gappy.read(np.array(["2001-01-01T00"], "datetime64[ns]"))


def test_threads_may_read_at_once(data: PreparedData) -> None:
    frames = data.read(data.stamps)
    random = np.random.default_rng(1)
    orders = [random.integers(0, data.stamps.size, 30) for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for order, found in zip(orders, pool.map(lambda o: data.read(data.stamps[o]), orders), strict=True):
            assert np.array_equal(found, frames[order])


def test_channels_of_a_variable_lie_side_by_side(data: PreparedData) -> None:
    assert [channel.level for channel in data.channels[data.variable_slice("tmp")]] == [100, 500, 1000]
    assert data.variables == ("dswrf_avetoa", "pressfc", "tmp", "ugrd10m")
    with pytest.raises(UserError, match="no time-varying variable 'temperature'; they have dswrf_avetoa, pressfc"):
        data.variable_slice("temperature")


@pytest.mark.parametrize(("frames", "rollout"), [(1, 1), (2, 1), (2, 4), (3, 2)])
def test_samples_are_exactly_the_windows_that_are_whole(gappy: PreparedData, frames: int, rollout: int) -> None:
    period = Period(start="1994-01-01T00", end="1994-01-08T18")
    samples = gappy.samples(period, frames, rollout)
    start, end, step = np.datetime64("1994-01-01T00"), np.datetime64("1994-01-08T18"), np.timedelta64(6, "h")
    good, missing, invalid = [], 0, 0
    for initial in np.arange(start + (frames - 1) * step, end - rollout * step + np.timedelta64(1, "s"), step):
        window = {str(stamp)[:13] for stamp in initial + np.arange(1 - frames, rollout + 1) * step}
        (read,) = WindowReader(gappy, samples.initial, (), frames, rollout, 1).window(np.array([initial]))
        assert {str(stamp)[:13] for stamp in read} == window
        if ABSENT in window:
            missing += 1
        elif INVALID in window:
            invalid += 1
        else:
            good.append(initial)
    assert samples.excluded == {"missing": missing, "invalid": invalid}
    assert missing == invalid == frames + rollout
    assert np.array_equal(samples.initial, np.array(good, "datetime64[ns]"))
    assert [str(stamp)[:13] for stamp in samples.stamps["invalid"]] == [INVALID]
    assert [str(stamp)[:13] for stamp in samples.stamps["missing"]] == [ABSENT]


def test_a_period_too_short_for_a_window_has_no_samples(gappy: PreparedData) -> None:
    assert gappy.samples(Period(start="1994-01-01T00", end="1994-01-01T12"), 2, 2).initial.size == 0


def test_the_oceans_levels_are_depths_in_metres(ocean: Path, tmp_path: Path) -> None:
    chosen = ocean_experiment(ocean)
    run(chosen, tmp_path, progress=no_progress, should_stop=never_stop)
    data = PreparedData.open(Paths(chosen, tmp_path).data)
    temperature = data.variable_slice("temp")
    assert data.component == "mom6"
    assert [channel.level for channel in data.channels[temperature]] == [0.5, 50, 500]
    assert np.isnan(data.read(np.array(["1994-01-01T00"], "datetime64[ns]"))[:, temperature]).any()


def test_a_folder_without_data_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no prepared data in .*; run `graphufs prepare`"):
        PreparedData.open(tmp_path)
