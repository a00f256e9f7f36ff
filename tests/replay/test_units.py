"""Units as stores spell them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.replay.units import Conversion, conversion, variable_conversion
from graphufs.vocabulary.physical_bounds import QUANTITIES

REPLAYS_OWN = {
    "tmp": "K",
    "ugrd": "m/sec",
    "ugrd10m": "m/s",
    "spfh": "kg/kg",
    "cldfra": "frac",
    "icec": "fraction",
    "land": "numerical",
    "pressfc": "Pa",
    "dpres": "pa",
    "geopotential": "m**2/s**2",
    "prateb_ave": "kg/m**2/s",
    "dswrf_avetoa": "W/m**2",
    "lhtfl_ave": "w/m**2",
    "uflx_ave": "N/m**2",
    "temp": "degC",
    "so": "psu",
    "ho": "meters",
}
"""As the published stores have them."""
KNOWN = [
    ("degrees_celsius", "K", 1, 273.15),
    ("deg C", "K", 1, 273.15),
    ("deg K", "K", 1, 0),
    ("C", "K", 1, 273.15),
    ("°F", "K", 5 / 9, 459.67 * 5 / 9),
    ("mb", "hPa", 1, 0),
    ("Pa", "hPa", 0.01, 0),
    ("inHg", "Pa", 3386.38864, 0),
    ("m s-1", "m/s", 1, 0),
    ("m s**-1", "m/s", 1, 0),
    ("m s⁻¹", "m/s", 1, 0),
    ("knots", "m/s", 1852 / 3600, 0),
    ("km h-1", "m/s", 1 / 3.6, 0),
    ("g kg-1", "kg/kg", 1e-3, 0),
    ("%", "1", 0.01, 0),
    ("fraction [0:1]", "1", 1, 0),
    ("kg m^-2 s^-1", "kg/m**2/s", 1, 0),
    ("W m-2", "W/m**2", 1, 0),
    ("W/M**2", "W/m**2", 1, 0),
    ("1e-3", "psu", 1, 0),
    ("gpm", "m", 1, 0),
    ("radians", "degree", 180 / np.pi, 0),
    ("degrees_north", "degree", 1, 0),
    ("degree_E", "degree", 1, 0),
    ("XXX", "K", 1, 0),
]
REFUSED = [
    ("bananas", "K"),
    ("m", "K"),
    ("J/kg", "K"),
    ("mm/day", "kg/m**2/s"),
    ("Pa s-1", "Pa"),
    ("((((", "K"),
    ("nan", "K"),
    ("0 K", "K"),
    ("K" * 100, "K"),
    ("10**10**10**10", "K"),
    ("((9**9)**9)**9", "K"),
    ("9^9^9^9", "K"),
    ("9⁹⁹⁹⁹⁹⁹⁹", "K"),
]


@pytest.mark.parametrize("name", REPLAYS_OWN)
def test_what_replay_itself_says_changes_nothing(name: str) -> None:
    assert variable_conversion(name, REPLAYS_OWN[name], "the store") == Conversion()


@pytest.mark.parametrize(("given", "wanted", "scale", "offset"), KNOWN)
def test_units_are_converted(given: str, wanted: str, scale: float, offset: float) -> None:
    found = conversion(given, wanted, "x")
    assert found.scale == pytest.approx(scale, rel=1e-7) and found.offset == pytest.approx(offset, rel=1e-7)


@pytest.mark.parametrize(("given", "wanted"), REFUSED)
def test_what_is_no_such_unit_is_refused_at_once(given: str, wanted: str) -> None:
    begun = time.process_time()
    with pytest.raises(UserError, match=r"^x is in .* cannot be converted to "):
        conversion(given, wanted, "x")
    assert time.process_time() - begun < 5


def test_values_that_need_no_conversion_are_left_as_they_are() -> None:
    values = np.array([250.125], np.float32)
    assert Conversion().apply(values) is values
    assert conversion("degC", "K", "x").apply(np.array([-20.5], np.float32)).dtype == np.float32


def test_bounds_are_in_units_that_can_be_read() -> None:
    for name, quantity in QUANTITIES.items():
        assert quantity.low < quantity.high
        assert variable_conversion(name, quantity.units, "the store") == Conversion()
