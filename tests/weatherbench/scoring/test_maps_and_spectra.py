"""Sums of fields, maps of scores and spectra."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.scoring.field_sums import FieldSums
from graphufs.weatherbench.scoring.maps import Maps
from graphufs.weatherbench.scoring.spectra import Spectra, circumference, zonal_energy_spectrum

TIMES = np.datetime64("2020-01-01", "ns") + np.arange(6) * np.timedelta64(18, "h")
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(6, 3, 4))


def sums(indices: list[int], values: np.ndarray = VALUES, **options: bool) -> FieldSums:
    made = FieldSums(values.shape[1:], **options)
    for index in indices:
        made.update(TIMES[index], values[index])
    return made


def test_halves_merged_are_the_whole() -> None:
    merged = sums([4, 1, 5]).merge(sums([0, 2, 3]))
    np.testing.assert_array_equal(merged.initial_times, TIMES)
    np.testing.assert_allclose(merged.mean(), VALUES.mean(axis=0), rtol=1e-12)


def test_merging_leaves_both_parts_as_they_were() -> None:
    first, second = sums([0]), sums([1])
    before = first.checksum()
    first.merge(second)
    assert first.checksum() == before and len(second.initial_times) == 1


def test_no_initial_time_counts_twice() -> None:
    with pytest.raises(UserError, match="2020-01-01T18 is in the sums already"):
        sums([0, 1]).merge(sums([1, 2]))
    with pytest.raises(UserError, match="must not count twice"):
        sums([0, 0])


@pytest.mark.parametrize("skipna", [False, True])
def test_nan_spoils_its_point_or_is_left_out_there(skipna: bool) -> None:
    values = VALUES.copy()
    values[1, 0, 0] = values[:, 2, 3] = np.nan
    mean = sums([0, 1], values, skipna=skipna).merge(sums([2, 3], values, skipna=skipna)).mean()
    expected = np.nanmean(values[:4, :2], axis=0) if skipna else values[:4, :2].mean(axis=0)
    np.testing.assert_allclose(mean[:2], expected, rtol=1e-12)
    assert np.isnan(mean[2, 3]) and not np.isnan(mean[2, :3]).any()


def test_sums_that_do_not_fit_are_refused() -> None:
    for other in (FieldSums((2, 2)), FieldSums((3, 4), skipna=True)):
        with pytest.raises(UserError, match="cannot be merged"):
            sums([0]).merge(other)
    with pytest.raises(UserError, match="shape"):
        FieldSums((2, 2)).update(TIMES[0], VALUES[0])
    with pytest.raises(UserError, match="nothing to average"):
        FieldSums((2, 2)).mean()


def test_a_checksum_tells_sums_apart() -> None:
    assert sums([0, 1]).checksum() == sums([1, 0]).checksum()
    assert len({sums([0]).checksum(), sums([0, 1]).checksum(), sums([0], VALUES + 1e-12).checksum()}) == 3


GRID = Grid(np.array([-60.0, 0.0, 60.0]), np.arange(16) * 22.5)
WIND = (Channel("10m_u_component_of_wind"), Channel("10m_v_component_of_wind"), Channel("temperature", 500.0))
LEADS = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
FORECAST, TRUTH, NORMAL = RNG.normal(size=(3, 4, 2, 3, 3, 16)).astype(np.float32)


def test_maps_are_means_over_initial_times_of_each_lead_and_channel() -> None:
    maps = Maps(WIND, GRID, LEADS, metrics=["rmse", "bias"])
    for index in range(4):
        maps.observe("emulator", TIMES[index], FORECAST[index], TRUTH[index], NORMAL[index])
    error, found = FORECAST - TRUTH, maps.scores("emulator")
    np.testing.assert_allclose(found["bias"], error.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found["rmse"], np.sqrt((error**2).mean(axis=0)), rtol=1e-5)


def test_maps_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(UserError, match="no map of acc"):
        Maps(WIND, GRID, LEADS, metrics=["acc"])


def test_a_wave_has_its_energy_at_its_wavenumber() -> None:
    wave = 3.0 * np.cos(np.deg2rad(GRID.longitude) * 2 + 0.3) + 5.0
    spectrum = zonal_energy_spectrum(np.broadcast_to(wave, GRID.shape), GRID.latitude)
    expected = np.zeros(9)
    expected[0], expected[2] = 25.0, 4.5
    np.testing.assert_allclose(spectrum / circumference(GRID.latitude)[:, None], [expected] * 3, atol=1e-12)
    np.testing.assert_allclose(circumference(np.array([0.0, 60.0])), [40.0082e6, 20.0041e6], rtol=1e-5)


def test_the_energy_is_the_integral_of_the_square() -> None:
    field = RNG.normal(size=(3, 15))  # an odd number of longitudes has no Nyquist wavenumber
    spectrum = zonal_energy_spectrum(field, GRID.latitude)
    np.testing.assert_allclose(spectrum.sum(-1), (field**2).mean(-1) * circumference(GRID.latitude), rtol=1e-12)


def test_the_truths_spectrum_is_counted_once_however_many_forecasts_there_are() -> None:
    spectra = Spectra(WIND, GRID, LEADS)
    for name in ("emulator", "persistence"):
        for index in range(2):
            spectra.observe(name, TIMES[index], FORECAST[index] * (1 + (name == "emulator")), TRUTH[index], NORMAL[0])
    expected = zonal_energy_spectrum(TRUTH[:2], GRID.latitude).mean(axis=0)
    np.testing.assert_allclose(spectra.mean("truth"), expected, rtol=1e-12)
    np.testing.assert_allclose(spectra.mean("emulator"), 4 * spectra.mean("persistence"), rtol=1e-6)


def test_unevenly_spaced_longitudes_have_no_spectrum() -> None:
    with pytest.raises(UserError, match="evenly spaced"):
        Spectra(WIND, Grid(GRID.latitude, GRID.longitude**1.01), LEADS)
