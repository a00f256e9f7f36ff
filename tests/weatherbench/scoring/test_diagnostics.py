"""Maps and spectra beside the scores: what they hold, that parts merge to the whole, and that damage is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.spectra import zonal_energy_spectrum

GRID = Grid(np.array([-60.0, 0.0, 60.0]), np.arange(8) * 45.0)
LEADS = np.arange(1, 5) * np.timedelta64(6, "h").astype("timedelta64[ns]")
TIMES = np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]").astype("datetime64[ns]")
RNG = np.random.default_rng(0)
FORECAST, TRUTH = (RNG.normal(size=(10, 4, 2, 3, 8)).astype(np.float32) for _ in range(2))
CHANNELS = (Channel("temperature", 500.0), Channel("surface_pressure"))


def seen(part: slice, skipna: bool = False) -> Diagnostics:
    """Diagnostics at the second and fourth lead over some of the initial times."""
    diagnostics = Diagnostics(CHANNELS, GRID, LEADS[1::2], LEADS, convention="WeatherBench2", skipna=skipna)
    for time, forecast, truth in zip(TIMES[part], FORECAST[part], TRUTH[part], strict=True):
        diagnostics.observe("emulator", time, forecast, truth, truth)
        diagnostics.observe("persistence", time, truth, truth, truth)
    return diagnostics


def test_maps_and_spectra_are_means_at_the_chosen_leads_of_the_emulator_alone() -> None:
    found = seen(slice(None))
    errors = (FORECAST.astype(np.float64) - TRUTH)[:, 1::2]
    np.testing.assert_allclose(found.maps.scores("emulator")["bias"], errors.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.maps.scores("emulator")["rmse"], np.sqrt((errors**2).mean(axis=0)), rtol=1e-6)
    assert found.spectra is not None and set(found.spectra.sums) == {"emulator", "truth"}
    expected = zonal_energy_spectrum(FORECAST[:, 1::2], GRID.latitude).mean(axis=0)
    np.testing.assert_allclose(found.spectra.mean("emulator"), expected, rtol=1e-12)


@pytest.mark.parametrize("skipna", [False, True])
def test_halves_kept_restored_and_merged_are_the_whole(skipna: bool) -> None:
    halves = [Diagnostics.restore(seen(part, skipna).dataset()) for part in (slice(6, None), slice(None, 6))]
    merged, whole = halves[0].merge(halves[1]), seen(slice(None), skipna)
    np.testing.assert_array_equal(merged.initial_times, TIMES)
    xr.testing.assert_allclose(merged.dataset(), whole.dataset(), rtol=1e-12)


MEMBERS = RNG.normal(size=(10, 4, 3, 2, 3, 8)).astype(np.float32)


def seen_members(part: slice) -> Diagnostics:
    """The same with three members, of which the forecasts are the mean."""
    diagnostics = Diagnostics(CHANNELS, GRID, LEADS[1::2], LEADS, convention="WeatherBench2")
    for time, members, truth in zip(TIMES[part], MEMBERS[part], TRUTH[part], strict=True):
        diagnostics.observe("emulator", time, members.mean(axis=1), truth, truth)
        diagnostics.observe_members("emulator", time, members, truth)
        diagnostics.observe_members("persistence", time, truth[:, None], truth)
    return diagnostics


def test_members_have_maps_of_spread_and_error_and_a_spectrum_each() -> None:
    found = seen_members(slice(None))
    assert found.ensemble and not seen(slice(None)).ensemble and set(found.member_maps.sums) == {"emulator"}
    x, y = MEMBERS[:, 1::2].astype(np.float64), TRUTH[:, 1::2].astype(np.float64)
    maps = found.member_maps.scores("emulator")
    np.testing.assert_allclose(maps["ensemble_variance"], x.var(axis=2, ddof=1).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(maps["ensemble_mean_mse"], ((x.mean(axis=2) - y) ** 2).mean(axis=0), rtol=1e-5)
    assert found.member_spectra is not None
    spectra = zonal_energy_spectrum(MEMBERS[:, 1::2], GRID.latitude).mean(axis=(0, -2))
    np.testing.assert_allclose(found.member_spectra.mean(), spectra, rtol=1e-12)


def test_members_kept_restored_and_merged_are_the_whole_and_fit_no_single_forecasts() -> None:
    halves = [Diagnostics.restore(seen_members(part).dataset()) for part in (slice(6, None), slice(None, 6))]
    merged, whole = halves[0].merge(halves[1]), seen_members(slice(None))
    xr.testing.assert_allclose(merged.dataset(), whole.dataset(), rtol=1e-12)
    damaged = whole.dataset()
    damaged["member_maps"][0, 0, 0, 0, 0] += 1
    with pytest.raises(UserError, match="stored member maps are damaged"):
        Diagnostics.restore(damaged)
    with pytest.raises(UserError, match="can only be merged where"):
        seen_members(slice(6, None)).merge(seen(slice(None, 6)))


def test_what_does_not_fit_or_counts_twice_is_refused() -> None:
    half = seen(slice(None, 6))
    with pytest.raises(UserError, match="must not count twice"):
        half.merge(seen(slice(5, None)))
    other = Diagnostics(CHANNELS, GRID, LEADS[:2], LEADS, convention="WeatherBench2")
    other.observe("emulator", TIMES[8], FORECAST[8], TRUTH[8], TRUTH[8])
    with pytest.raises(UserError, match="where leads, channels, grid and convention agree"):
        half.merge(other)


def test_damage_is_found_when_they_are_restored(scored: tuple[object, Path, Scores]) -> None:
    kept = scored[2].diagnostics
    assert kept is not None
    restored = Diagnostics.restore(kept)
    np.testing.assert_array_equal(restored.initial_times, scored[2].initial_times)
    damaged = kept.load().copy(deep=True)
    damaged["maps"].values[0, 0, 0, 0, 0] += 1e-9
    with pytest.raises(UserError, match="the stored maps are damaged"):
        Diagnostics.restore(damaged)


def test_a_part_of_the_globe_has_maps_and_no_spectra() -> None:
    part = Grid(GRID.latitude, GRID.longitude[:5])
    diagnostics = Diagnostics(CHANNELS, part, LEADS[:1], LEADS, convention="WeatherBench2")
    diagnostics.observe("emulator", TIMES[0], FORECAST[0, ..., :5], TRUTH[0, ..., :5], TRUTH[0, ..., :5])
    assert diagnostics.spectra is None and set(diagnostics.dataset().data_vars) == {"maps"}
