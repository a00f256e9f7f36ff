"""The loader: repeatable shuffling, whole windows, derived forcings at the right times."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.train.loader import BatchLoader, DerivedCache, Samples, order

STEP = np.timedelta64(6, "h")
STAMPS = np.datetime64("1994-01-01T00", "ns") + np.arange(40) * STEP


class Hours:
    """Prepared data whose only channel holds the hours since the first stamp, on a 2 x 4 grid."""

    time_step = 6
    latitude = np.array([45.0, -45.0])
    longitude = np.array([0.0, 90.0, 180.0, 270.0])

    def read(self, stamps):
        hours = (stamps - STAMPS[0]) / np.timedelta64(1, "h")
        return np.broadcast_to(hours[:, None, None, None], (len(stamps), 1, 2, 4)).astype(np.float32)


def samples(rollout=2, derived=("day_progress_sin", "year_progress_cos", "toa_incident_solar_radiation")):
    return Samples(Hours(), STAMPS[1:-rollout], derived, input_frames=2, rollout=rollout, tisr_period=1)


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
        def read(self, stamps):
            raise OSError("the disk is gone")

    broken = Samples(Broken(), STAMPS[1:-2], (), 2, 2, 1)
    with pytest.raises(OSError, match="the disk is gone"):
        next(BatchLoader(broken, 2, (0,)).batches(0, 3))
