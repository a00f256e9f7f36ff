"""Progress features and solar radiation: what astronomy says they must be."""

from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.forcings import derived_forcing, toa_incident_solar_radiation
from graphufs.vocabulary.variables import DERIVED_FORCINGS

LATITUDE, LONGITUDE = np.linspace(88, -88, 23), np.arange(24) * 15.0


def stamps(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[ns]")


@pytest.mark.parametrize("name", DERIVED_FORCINGS)
def test_every_derived_forcing_comes_in_canonical_shape(name: str) -> None:
    values = derived_forcing(name, stamps("1994-03-01T06", "1994-03-01T12"), LATITUDE, LONGITUDE)
    assert values.dtype == np.float32 and values.shape[:2] == (2, 1)
    expected = {"y": (1, 1), "d": (1, 24), "t": (23, 24)}[name[0]]
    assert values.shape[2:] == expected


def test_day_progress_is_zero_at_local_midnight() -> None:
    values = derived_forcing("day_progress", stamps("1995-07-04T06"), LATITUDE, LONGITUDE)[0, 0, 0]
    assert values[LONGITUDE == 270] == 0  # 06 UTC and 18 hours east
    assert values[LONGITUDE == 90] == 0.5


def test_year_progress_comes_back_after_a_mean_year() -> None:
    start = stamps("1994-05-05T00")
    later = start + np.timedelta64(round(365.24219 * 86400), "s")
    values = derived_forcing("year_progress_sin", np.concatenate([start, later]), LATITUDE, LONGITUDE)
    assert values[0, 0, 0, 0] == pytest.approx(values[1, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("hours", [1, 6, 24])
def test_radiation_over_the_shortcut_for_full_day_and_night_is_the_plain_integral(hours: int) -> None:
    """What is full day over a quarter of an hour is near the terminator over hours, and so computed otherwise."""
    stamp = stamps("1996-02-29T15")
    whole = toa_incident_solar_radiation(stamp, LATITUDE, LONGITUDE, hours)[0]
    quarters = stamp - np.arange(hours * 4) * np.timedelta64(15, "m")
    parts = toa_incident_solar_radiation(quarters, LATITUDE, LONGITUDE, 0.25).sum(axis=0)
    np.testing.assert_allclose(whole, parts, rtol=0, atol=3e-5 * whole.max())


def test_a_day_of_radiation_has_the_solar_constants_mean_and_the_poles_their_night() -> None:
    latitude = np.linspace(89.5, -89.5, 180)
    stamp = stamps("1994-12-22T00")
    energy = toa_incident_solar_radiation(stamp, latitude, LONGITUDE, 24)[0] / 86400
    area = np.cos(np.deg2rad(latitude))
    mean = (energy.mean(axis=1) * area).sum() / area.sum()
    # a quarter of the irradiance at the distance of the December solstice, 0.984 au
    assert mean == pytest.approx(1361 / 4 / 0.9838**2, rel=2e-3)
    assert (energy[latitude > 67.5] == 0).all() and (energy[latitude < -67.5] > 400).all()


def test_radiation_is_largest_under_the_sun() -> None:
    energy = toa_incident_solar_radiation(stamps("1994-03-20T12:30"), LATITUDE, LONGITUDE, 1)[0]
    row, column = np.unravel_index(energy.argmax(), energy.shape)
    assert LATITUDE[row] == 0 and LONGITUDE[column] == 0
    assert (energy[:, LONGITUDE == 180] < 1e-3 * energy.max()).all()


def test_another_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="year_progress_sin"):
        derived_forcing("moonlight", stamps("1994-01-01"), LATITUDE, LONGITUDE)
