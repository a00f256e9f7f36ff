"""Parity with official WeatherBench2 in what is a field: maps of scores, spectra and derived variables."""

from __future__ import annotations

import numpy as np

from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.inputs.precipitation import from_running_total, longer_accumulation
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.scoring.maps import Maps
from graphufs.weatherbench.scoring.spectra import Spectra, zonal_energy_spectrum, zonal_frequency
from tests.golden.weatherbench2_sets import Set, on_grid, placed, pytest_generate_tests

__all__ = ["pytest_generate_tests"]

FLOAT32 = 3e-5
"""The official fields are float32."""


def observed(golden: Set) -> tuple[Maps, Spectra]:
    forecasts = Forecasts(golden.open("forecast"))
    maps = Maps(forecasts.channels, forecasts.grid, forecasts.leads)
    spectra = Spectra(forecasts.channels, forecasts.grid, forecasts.leads)
    golden.score(regions=["global"], observers=[maps, spectra])
    return maps, spectra


def test_maps_of_scores_are_the_official_ones(golden: Set) -> None:
    maps = observed(golden)[0]
    official, ours = golden.official("deterministic_spatial"), maps.scores("emulator")
    assert {str(name) for name in official} <= {channel.variable for channel in maps.channels}
    compared = set()
    for position, channel in enumerate(maps.channels):
        if channel.variable in official:
            array = placed(official[channel.variable], maps)
            if channel.level is not None:
                if channel.level not in array["level"]:  # a set may have maps of some levels only
                    continue
                array = array.sel(level=channel.level)
            compared.add(channel.variable)
            for metric, values in ours.items():
                theirs = array.sel(metric=metric).transpose("lead_time", "latitude", "longitude").values
                mine = values[:, position]
                np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs))
                peak = float(np.nanmax(np.abs(theirs)))
                np.testing.assert_allclose(mine, theirs, rtol=FLOAT32, atol=FLOAT32 * peak / 10)
    assert compared == {str(name) for name in official}


def test_spectra_are_the_official_ones(golden: Set) -> None:
    official, obs = golden.official("zonal_spectrum"), golden.open("obs")
    grid = grid_of(obs, "obs")
    # by coordinate, whatever the order of rows
    official = official.sel(latitude=grid.latitude, method="nearest", tolerance=1e-3).sortby("zonal_wavenumber")
    frequency = official["frequency"]
    np.testing.assert_allclose(zonal_frequency(grid), frequency.transpose("latitude", ...), rtol=1e-12)
    for name, array in official.items():
        places = {dim: official[dim] for dim in ("time", "level") if dim in array.dims}
        theirs = array.transpose(*places, "latitude", "zonal_wavenumber").values
        fields = obs[name].sel(places).transpose(*places, "latitude", "longitude").values
        mine = zonal_energy_spectrum(fields, grid.latitude)
        np.testing.assert_allclose(mine, theirs, rtol=FLOAT32, atol=1e-6 * theirs.max())


def test_the_mean_spectrum_of_the_truth_is_that_of_its_valid_times(golden: Set) -> None:
    spectra, obs = observed(golden)[1], golden.open("obs")
    times, channel = spectra.sums["truth"].initial_times, spectra.channels[0]
    fields = obs[channel.variable].sel(time=times + spectra.leads[-1]).transpose("time", ..., "latitude", "longitude")
    expected = zonal_energy_spectrum(fields.values, obs["latitude"].values).mean(axis=0)
    np.testing.assert_allclose(spectra.mean("truth")[-1, 0], expected, rtol=1e-12)


def test_derived_variables_are_the_official_ones(golden: Set) -> None:
    official, obs = golden.official("derived_variables"), golden.open("obs")
    names = [str(name) for name in official]
    truth = DatasetTruth(obs, derived=names)
    fields = truth.read(official["time"].values)
    for name in names:
        for channel in (channel for channel in truth.channels if channel.variable == name):
            array = official[name] if channel.level is None else official[name].sel(level=channel.level)
            array = on_grid(array, truth.grid)
            theirs = array.transpose("time", "latitude", "longitude").values
            mine = fields[:, truth.channels.index(channel)]
            np.testing.assert_allclose(mine, theirs, rtol=FLOAT32, atol=1e-7 * np.nanmax(np.abs(theirs)))


def test_precipitation_accumulations_are_the_official_ones(golden: Set) -> None:
    official = golden.official("precip_accumulation")
    total = official["total_precipitation_cumulative_input"]
    for hours in (6, 12):
        theirs = official[f"tp{hours}_from_cumulative"].transpose(*total.dims)
        np.testing.assert_allclose(from_running_total(total, hours).values, theirs, rtol=FLOAT32, atol=1e-9)
    forecast = golden.open("forecast")["total_precipitation_6hr"].sel(
        time=official["time"], prediction_timedelta=official["prediction_timedelta"]
    )
    theirs = official["tp24_from_6hr"].transpose(*forecast.dims)
    np.testing.assert_allclose(longer_accumulation(forecast.load(), 24, 6).values, theirs, rtol=FLOAT32, atol=1e-9)
