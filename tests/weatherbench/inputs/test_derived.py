"""Derived variables: known flows and columns, and how they are read."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.derived import OMEGA, with_derived
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.precipitation import from_running_total, longer_accumulation
from graphufs.weatherbench.inputs.truth import DatasetTruth

RADIUS = 6.3675e6
LATITUDE, LONGITUDE = np.arange(-88.0, 89.0, 2.0), np.arange(0.0, 360.0, 3.0)
LAT, LON = np.meshgrid(np.deg2rad(LATITUDE), np.deg2rad(LONGITUDE), indexing="ij")
LEVEL = np.array([850, 300, 1000, 500])  # in no order
INSIDE = (slice(3, -3), slice(2, -2))


def on_levels(**fields: np.ndarray) -> xr.Dataset:
    """Fields [lat, lon] or [level, lat, lon]."""
    dims = ("level", "latitude", "longitude")
    variables = {
        name: (dims, np.broadcast_to(values, (len(LEVEL), *LAT.shape)).astype(np.float64))
        for name, values in fields.items()
    }
    return xr.Dataset(variables, {"level": LEVEL, "latitude": LATITUDE, "longitude": LONGITUDE})


def derived(name: str, **fields: np.ndarray) -> xr.DataArray:
    return with_derived(on_levels(**fields), [name])[name]


def test_solid_body_rotation_has_vorticity_and_no_divergence() -> None:
    wind = {"u_component_of_wind": 20 * np.cos(LAT), "v_component_of_wind": 0 * LAT}
    # WeatherBench2 leaves out the metric terms: dv/dx - du/dy
    vorticity = derived("vorticity", **wind).sel(level=500).values
    np.testing.assert_allclose(vorticity[INSIDE], (20 * np.sin(LAT) / RADIUS)[INSIDE], rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(derived("divergence", **wind), 0, atol=1e-12)


def test_a_geostrophic_wind_follows_the_height_lines() -> None:
    inside = (np.abs(LATITUDE) > 20)[:, None] & (np.abs(LATITUDE) < 85)[:, None] & (0 * LON == 0)
    # a height that falls towards the north as f u0 does gives the westerly u0
    phi = 5e4 + 15.0 * 2 * OMEGA * RADIUS * np.cos(LAT)
    u = derived("u_component_of_geostrophic_wind", geopotential=phi).sel(level=500).values
    np.testing.assert_allclose(u[inside], 15.0, rtol=1e-3)
    flow = {"geopotential": phi, "u_component_of_wind": 15.0 + 0 * LAT, "v_component_of_wind": 1.0 + 0 * LAT}
    np.testing.assert_allclose(derived("ageostrophic_wind_speed", **flow).sel(level=500).values[inside], 1, rtol=1e-3)


def test_columns_are_integrated_over_sorted_levels() -> None:
    q = np.full(LAT.shape, 0.01)
    np.testing.assert_allclose(derived("total_column_vapor", specific_humidity=q), 0.01 * 700 / 9.81, rtol=1e-6)
    transport = derived(
        "integrated_vapor_transport", specific_humidity=q, u_component_of_wind=3 + 0 * q, v_component_of_wind=4 + 0 * q
    )
    np.testing.assert_allclose(transport, 0.05 * 700 / 9.81, rtol=1e-6)


def test_the_lapse_rate_of_a_layered_atmosphere_is_the_one_it_was_made_with() -> None:
    height = 16e3 * (1 - LEVEL[:, None, None] / 1000.0)
    rate = derived("lapse_rate", temperature=288 - 0.0065 * height + 0 * LAT, geopotential=9.81 * height + 0 * LAT)
    np.testing.assert_allclose(rate, -0.0065, rtol=1e-6)


def test_divergence_lifts_the_air_above() -> None:
    wind = {"u_component_of_wind": 0 * LAT, "v_component_of_wind": 1e-5 * RADIUS * LAT}
    omega = derived("vertical_velocity", **wind)
    assert (omega.sel(level=300) == 0).all()
    np.testing.assert_allclose(omega.sel(level=1000), -1e-5 * 700e2, rtol=1e-6)


def test_saturated_air_has_relative_humidity_one() -> None:
    pressure = LEVEL[:, None, None] + 0 * LAT
    vapour = 6.112 * np.exp(17.67 * 10 / (10 + 243.5))
    ratio = 0.622 * vapour / (pressure - vapour)
    humidity = derived("relative_humidity", temperature=283.15 + 0 * LAT, specific_humidity=ratio / (1 + ratio))
    np.testing.assert_allclose(humidity, 1, rtol=1e-5)


def test_eddies_are_what_deviates_from_the_zonal_mean() -> None:
    wind = {"u_component_of_wind": 30 + 2 * np.cos(3 * LON), "v_component_of_wind": 0 * LON}
    energy = derived("eddy_kinetic_energy", **wind)
    np.testing.assert_allclose(energy.mean("longitude"), 0.5 * 2 * 700, rtol=1e-6)


def test_derived_variables_are_read_as_channels_of_forecast_and_truth() -> None:
    wind = on_levels(u_component_of_wind=3 + 0 * LAT, v_component_of_wind=4 + 0 * LAT).astype(np.float32)
    times = np.array(["2020-01-01T00", "2020-01-01T06", "2020-01-01T12"], "datetime64[ns]")
    truth = DatasetTruth(wind.expand_dims(time=times), [Channel("wind_speed", 500.0)], derived=["wind_speed"])
    assert (truth.read(times[1:]) == 5).all()
    leads = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    store = wind.expand_dims(time=times[:1], prediction_timedelta=leads)
    forecasts = Forecasts(store, ["wind_speed", "v_component_of_wind"], [850, 500], derived=["wind_speed"])
    assert [str(channel) for channel in forecasts.channels][-1] == "wind_speed 850"
    fields = forecasts.read(times[0])
    assert fields.shape[:2] == (2, 4) and (fields[:, :2] == 4).all() and (fields[:, 2:] == 5).all()
    assert forecasts.attributes("wind_speed")["units"] == "m s-1"


RAIN_TIMES = np.array(["2020-01-01"], "datetime64[ns]")


def rain(values: list[float], step: int, name: str) -> xr.DataArray:
    leads = (np.arange(1, len(values) + 1) * step).astype("timedelta64[h]").astype("timedelta64[ns]")
    return xr.DataArray(values, {"prediction_timedelta": leads}, ["prediction_timedelta"], name)


def test_a_running_total_is_differenced_and_never_negative() -> None:
    total = rain([1.0, 3.0, 2.5, 4.0], 6, "total_precipitation")
    np.testing.assert_allclose(from_running_total(total, 6), [np.nan, 2, 0, 1.5])
    np.testing.assert_allclose(from_running_total(total, 12), [np.nan, np.nan, 1.5, 1.0])


def test_replays_three_hourly_rain_adds_up_only_at_a_three_hour_step() -> None:
    amounts = rain([1.0, 2.0, 3.0, 4.0], 3, "total_precipitation_3hr")
    np.testing.assert_allclose(longer_accumulation(amounts, 6, 3), [np.nan, 3, 5, 7])
    with pytest.raises(UserError, match="accumulates 3 h but comes every 6 h"):
        longer_accumulation(rain([1.0, 2.0, 3.0], 6, "total_precipitation_3hr"), 6, 3)


def test_periods_that_do_not_fit_the_steps_are_refused() -> None:
    with pytest.raises(UserError, match="no whole number"):
        from_running_total(rain([1.0, 2.0, 3.0], 4, "total_precipitation"), 6)
    with pytest.raises(UserError, match="no whole number of the 2 steps"):
        longer_accumulation(rain([1.0, 2.0], 6, "total_precipitation_6hr"), 24, 6)
    uneven = rain([1.0, 2.0, 3.0], 6, "x").isel(prediction_timedelta=[0, 1, 1])
    with pytest.raises(UserError, match="evenly spaced"):
        from_running_total(uneven, 6)


def test_what_a_derived_variable_lacks_is_named() -> None:
    dataset = on_levels(temperature=LAT).expand_dims(time=RAIN_TIMES)
    for name, message in (
        ("potential_vorticity", "no derived variable potential_vorticity"),
        ("lapse_rate", "made of temperature, geopotential; the truth has no geopotential"),
        ("total_precipitation_24hr_from_6hr", "has no total_precipitation_6hr"),
    ):
        with pytest.raises(UserError, match=message):
            DatasetTruth(dataset, derived=[name])
    with pytest.raises(UserError, match="at least two levels"):
        DatasetTruth(dataset.assign(geopotential=dataset["temperature"]).isel(level=[0]), derived=["lapse_rate"])
    with pytest.raises(UserError, match="adds up leads .* under the name total_precipitation_24hr"):
        observed = dataset.assign(total_precipitation_6hr=dataset["temperature"])
        DatasetTruth(observed, derived=["total_precipitation_24hr_from_6hr"])


def test_every_derived_variable_can_be_made_and_has_the_dimensions_it_says() -> None:
    names = {needed for recipe in DERIVED_VARIABLES.values() for needed in recipe.inputs}
    leads = np.arange(1, 10) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    surface = {name for name in names if name.startswith(("10m", "total"))}
    dataset = on_levels(**{name: 1e-3 * (1 + LAT**2) for name in names}).isel(latitude=slice(40, 48))
    for name in surface:
        dataset[name] = dataset[name].isel(level=0, drop=True)
    dataset = dataset.isel(longitude=slice(8)).expand_dims(time=RAIN_TIMES, prediction_timedelta=leads)
    for name, recipe in DERIVED_VARIABLES.items():
        if "from_3hr" not in name:
            forecasts = Forecasts(dataset, [recipe.variable], derived=[name])
            assert len(forecasts.channels) == (len(LEVEL) if recipe.on_levels else 1)
            assert forecasts.read(RAIN_TIMES[0]).shape == (9, len(forecasts.channels), 8, 8)
