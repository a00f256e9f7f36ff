"""The loader: repeatable shuffling, whole windows, derived forcings at the right times."""

from __future__ import annotations

import json
from threading import Event

import numpy as np
import pytest

from graphufs.data.loader import AHEAD, AHEAD_BYTES, BatchLoader, DerivedCache, WindowReader, order
from graphufs.errors import UserError

STEP = np.timedelta64(6, "h")
STAMPS = np.datetime64("1994-01-01T00", "ns") + np.arange(40) * STEP


class Hours:
    """Prepared data whose only channel holds the hours since the first stamp, on a 2 x 4 grid."""

    time_step = 6
    latitude = np.array([45.0, -45.0])
    longitude = np.array([0.0, 90.0, 180.0, 270.0])
    frame_shape = (1, 2, 4)

    def read(self, stamps, out=None):
        hours = (stamps - STAMPS[0]) / np.timedelta64(1, "h")
        return np.broadcast_to(hours[:, None, None, None], (len(stamps), 1, 2, 4)).astype(np.float32)


def samples(rollout=2, derived=("day_progress_sin", "year_progress_cos", "toa_incident_solar_radiation")):
    return WindowReader(Hours(), STAMPS[1:-rollout], derived, input_frames=2, rollout=rollout, tisr_period=1)


def test_every_epoch_takes_every_sample_once_in_another_order():
    epochs = [np.concatenate([order(12, 3, batch, (5,)) for batch in range(4 * e, 4 * e + 4)]) for e in range(3)]
    for indices in epochs:
        assert sorted(indices) == list(range(12))
    assert not np.array_equal(epochs[0], epochs[1])


def test_samples_left_over_in_an_epoch_come_in_others():
    seen = np.concatenate([order(10, 4, batch, (0,)) for batch in range(40)])
    assert set(seen) == set(range(10)) and len(seen) == 160


def test_another_seed_gives_another_order_and_the_same_seed_the_same():
    assert np.array_equal(order(50, 10, 7, (1, 0)), order(50, 10, 7, (1, 0)))
    assert not np.array_equal(order(50, 10, 7, (1, 0)), order(50, 10, 7, (2, 0)))


def test_the_order_is_that_of_the_numpy_it_was_written_with():
    """NumPy promises no such thing: where this fails, runs begun with an older NumPy can no longer go on exactly."""
    assert order(12, 6, 0, (100, 0)).tolist() == [8, 5, 10, 6, 2, 3]
    assert order(12, 6, 3, (100, 0)).tolist() == [7, 1, 4, 8, 5, 2]
    assert order(10**5, 4, 0, (7, 1)).tolist() == [78669, 37686, 16348, 43618]
    assert BatchLoader(samples(), 4, (3,)).identity()["order"] == "5ec25e3770ef2e6b"


def test_a_batch_holds_whole_windows_around_its_initial_times():
    loader = BatchLoader(samples(), 4, (3,))
    for number, batch in loader.batches(0, 5):
        hours = (loader.initial_times(number) - STAMPS[0]) / np.timedelta64(1, "h")
        np.testing.assert_array_equal(batch.frames[:, :, 0, 0, 0], hours[:, None] + [-6, 0, 6, 12])


def test_starting_in_the_middle_gives_the_batches_of_an_uninterrupted_run():
    straight = dict(BatchLoader(samples(), 4, (3,)).batches(0, 12))
    for number, batch in BatchLoader(samples(), 4, (3,)).batches(7, 12):
        np.testing.assert_array_equal(batch.frames, straight[number].frames)
        for name, values in batch.derived.items():
            np.testing.assert_array_equal(values, straight[number].derived[name])


def test_derived_forcings_belong_to_the_windows_times():
    batch = samples().read(STAMPS[[4, 9]])
    assert batch.derived["year_progress_cos"].shape == (2, 4, 1, 1, 1)
    assert batch.derived["day_progress_sin"].shape == (2, 4, 1, 1, 4)
    # 18, 0, 6, 12 UTC at Greenwich
    np.testing.assert_allclose(batch.derived["day_progress_sin"][0, :, 0, 0, 0], [-1, 0, 1, 0], atol=1e-6)
    radiation = batch.derived["toa_incident_solar_radiation"]
    assert radiation.shape == (2, 4, 1, 2, 4)
    assert radiation[0, 1, 0, 0, 0] == 0 < radiation[0, 3, 0, 0, 0]  # midnight and noon at Greenwich


@pytest.mark.parametrize("limit", [0, 200, 10**6])
def test_a_full_cache_changes_nothing_but_the_work(limit):
    cache = DerivedCache(limit)
    for first in (3, 4, 3):
        window = samples().window(STAMPS[[first]])[0]
        cached = cache.get(samples(), "toa_incident_solar_radiation", window)
        fresh = samples().read(STAMPS[[first]]).derived["toa_incident_solar_radiation"][0]
        np.testing.assert_array_equal(cached, fresh)


def test_an_error_while_reading_reaches_the_training():
    class Broken(Hours):
        def read(self, stamps, out=None):
            raise OSError("the disk is gone")

    broken = WindowReader(Broken(), STAMPS[1:-2], (), 2, 2, 1)
    with pytest.raises(OSError, match="the disk is gone"):
        next(BatchLoader(broken, 2, (0,)).batches(0, 3))


def test_the_shards_of_all_processes_put_together_are_the_batches_of_one():
    single = dict(BatchLoader(samples(), 6, (3,)).batches(2, 9))
    for processes in (2, 3, 6):
        loaders = [BatchLoader(samples(), 6, (3,), shard=(process, processes)) for process in range(processes)]
        shards = [dict(loader.batches(2, 9)) for loader in loaders]
        for number, batch in single.items():
            parts = [shard[number] for shard in shards]
            assert {len(part.frames) for part in parts} == {6 // processes}
            np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), batch.frames)
            for name, values in batch.derived.items():
                np.testing.assert_array_equal(np.concatenate([part.derived[name] for part in parts]), values)
            local = [loader.local_initial_times(number) for loader in loaders]
            for loader in loaders:
                np.testing.assert_array_equal(loader.initial_times(number), np.concatenate(local))
        assert all(loader.identity() == loaders[0].identity() for loader in loaders)


@pytest.mark.parametrize(("batch_size", "shard", "message"), [(6, (0, 4), "multiple"), (6, (3, 3), "no process 3")])
def test_processes_that_cannot_share_a_batch_are_refused(batch_size, shard, message):
    with pytest.raises(UserError, match=message):
        BatchLoader(samples(), batch_size, (0,), shard=shard)


def test_the_identity_tells_other_samples_batch_sizes_and_seeds_apart():
    def identity(initial=STAMPS[1:-2], batch_size=4, key=(3, 0)):
        chosen = WindowReader(Hours(), initial, (), 2, 2, 1)
        return json.loads(json.dumps(BatchLoader(chosen, batch_size, key).identity()))

    assert identity() == identity()
    assert identity()["samples"] == 37 and identity()["first"] == "1994-01-01T06"
    without_one = np.delete(STAMPS[1:-2], 17)  # the same first and last
    for other, differs in (
        (identity(initial=without_one), {"samples", "initial_times", "order"}),
        (identity(initial=np.append(without_one[:-1], STAMPS[[38, 39]])), {"last", "initial_times"}),
        (identity(batch_size=8), {"batch_size"}),
        (identity(key=(4, 0)), {"key", "order"}),
    ):
        assert {name for name, value in identity().items() if other[name] != value} == differs


class Slow(Hours):
    """Notes what is read, and when asked to, reads nothing until it may."""

    def __init__(self, frame_shape=(1, 2, 4)):
        self.frame_shape, self.reads, self.may = frame_shape, 0, Event()

    def read(self, stamps, out=None):
        self.reads += 1
        assert self.may.wait(10)
        return super().read(stamps)


def test_while_a_batch_is_used_the_next_ones_are_read_and_no_more():
    data = Slow()
    data.may.set()
    loader = BatchLoader(WindowReader(data, STAMPS[1:-2], (), 2, 2, 1), 4, (0,))
    batches = loader.batches(0, 9)
    for used in range(1, 4):
        next(batches)
        for _ in range(200):
            if data.reads == used + AHEAD:
                break
            Event().wait(0.01)
        Event().wait(0.02)
        assert data.reads == used + AHEAD
    batches.close()


def test_large_batches_are_read_less_far_ahead_but_one_always_is():
    def ahead(rows, batch_size=4, processes=1):
        chosen = WindowReader(Slow((3, rows, 2 * rows)), STAMPS[1:-2], (), 2, 2, 1)
        return BatchLoader(chosen, batch_size, (0,), shard=(0, processes)).ahead

    assert ahead(8) == AHEAD
    rows = int(np.sqrt(AHEAD_BYTES / (4 * 4 * 4 * 3 * 2)))  # a batch that just fits
    assert ahead(rows) == 1 and ahead(rows, processes=2) == 2
    assert ahead(10 * rows) == 1


def test_the_wait_for_a_slow_store_is_measured():
    data = Slow()
    loader = BatchLoader(WindowReader(data, STAMPS[1:-2], (), 2, 2, 1), 4, (0,))
    data.read = lambda stamps, out=None, read=data.read: (Event().wait(0.05), read(stamps))[1]
    data.may.set()
    for _ in loader.batches(0, 1):
        pass
    assert 0.04 <= loader.waited < 5
