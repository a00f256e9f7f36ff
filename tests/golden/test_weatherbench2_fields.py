"""Parity with official WeatherBench2 in what is a field: maps of scores, spectra and derived variables."""

from __future__ import annotations

import numpy as np

from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.layout_checks import grid_of
from graphufs.weatherbench.inputs.precipitation import from_running_total, longer_accumulation
from graphufs.weatherbench.inputs.truth import DatasetTruth
from graphufs.weatherbench.scoring.maps import Maps
from graphufs.weatherbench.scoring.spectra import Spectra, at_common_frequencies, zonal_energy_spectrum, zonal_frequency
from tests.golden.weatherbench2_sets import Set, pytest_generate_tests

__all__ = ["pytest_generate_tests"]

FLOAT32 = 3e-5
"""The official fields are float32."""


def observed(golden: Set) -> tuple[Maps, Spectra]:
    forecasts = Forecasts(golden.open("forecast"))
    metrics = ["mse", "mae", "bias"] + (["seeps"] if golden.seeps() else [])
    maps = Maps(forecasts.channels, forecasts.grid, forecasts.leads, metrics=metrics, seeps=golden.seeps())
    spectra = Spectra(forecasts.channels, forecasts.grid, forecasts.leads)
    golden.score(regions=["global"], observers=[maps, spectra])
    return maps, spectra


def test_maps_of_scores_are_the_official_ones(golden: Set) -> None:
    ours, compared = observed(golden)[0].dataset("emulator"), set()
    for kind, metrics in (("deterministic_spatial", ("mse", "mae", "bias")), ("seeps_spatial", ("seeps",))):
        for name, array in golden.official(kind).items():
            for metric in metrics:
                theirs = array.sel(metric="seeps_24hr" if metric == "seeps" else metric)
                mine = ours[name].sel(metric=metric)
                if "level" in theirs.dims:
                    mine = mine.sel(level=theirs["level"])
                mine, values = mine.transpose(*theirs.dims).values, theirs.values
                np.testing.assert_array_equal(np.isnan(mine), np.isnan(values))
                peak = float(np.nanmax(np.abs(values)))
                np.testing.assert_allclose(mine, values, rtol=FLOAT32, atol=FLOAT32 * peak / 10)
                compared.add(metric)
    assert compared == {"mse", "mae", "bias", "seeps"}


def test_spectra_are_the_official_ones(golden: Set) -> None:
    official, obs = golden.official("zonal_spectrum"), golden.open("obs")
    grid = grid_of(obs, "obs")
    np.testing.assert_allclose(zonal_frequency(grid), official["frequency"].transpose("latitude", ...), rtol=1e-12)
    for name, array in official.items():
        theirs = array.transpose(..., "latitude", "zonal_wavenumber").values
        fields = obs[name].sel(time=official["time"]).transpose("time", ..., "latitude", "longitude").values
        mine = zonal_energy_spectrum(fields, grid.latitude)
        np.testing.assert_allclose(mine, theirs, rtol=FLOAT32, atol=1e-6 * theirs.max())


def test_spectra_at_common_frequencies_are_the_official_ones(golden: Set) -> None:
    official, spectra = golden.official("zonal_spectrum_interp"), golden.official("zonal_spectrum")
    rows = np.isin(spectra["latitude"].values, official["latitude"].values)
    spectrum = spectra["2m_temperature"].mean("time").transpose("latitude", ...).values[rows]
    mine, frequency = at_common_frequencies(spectrum, zonal_frequency(grid_of(golden.open("obs"), "obs"))[rows])
    np.testing.assert_allclose(frequency, official["frequency"], rtol=1e-12)
    np.testing.assert_allclose(mine, official["interp"].transpose("latitude", "frequency").values, rtol=1e-10)


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
