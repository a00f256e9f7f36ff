"""What the axes of a store must be: latitudes, longitudes, levels and stamps, brought into the units used here.

Latitudes keep the store's order. Longitudes come out ascending within [0, 360), whatever they start at and wherever
they run, with the order in which the store's columns are to be taken.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.replay.units import conversion
from graphufs.vocabulary.physical_bounds import LEVELS

EVENNESS = 0.01
"""The part of their spacing by which longitudes may be off even places: float32 rounds less than that."""
WIDEST = 1.9
"""How many times the common spacing two neighbouring rows of a global grid may be apart: at 2 a row is missing."""
CALENDARS = ("standard", "gregorian", "proleptic_gregorian", "julian")
"""Those whose dates are read as they show; `julian` since Replay's own stores are tagged so by mistake."""
NEGATIVE = {
    "latitude": (re.compile(r"(?i:\bdeg(rees?)?([_ ]?south|[_ ]s)\b)|\bdeg(rees?)?S\b"), "north"),
    "longitude": (re.compile(r"(?i:\bdeg(rees?)?([_ ]?west|[_ ]w)\b)|\bdeg(rees?)?W\b"), "east"),
}
"""Labels of degrees that count the other way, which as mere degrees would be a mirrored globe."""
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
YEARS = (1700, 2200)
"""What stamps of nanoseconds can hold, rounded inwards."""


def latitudes(values: np.ndarray, units: str, where: str, *, limited: bool = False) -> np.ndarray:
    """The latitudes [lat] in degrees, float64, in the order given.

    `where` is what messages call the store; unless `limited`, the rows must reach from pole to pole.

    Raises
    ------
    UserError
        If they are not numbers that rise or fall strictly within [-90, 90], or cover a part of the globe only.
    """
    degrees = _numbers(values, units, "degree", "latitude", where)
    steps = np.diff(degrees)
    if degrees.size < 2 or not ((steps > 0).all() or (steps < 0).all()):
        at = int(np.flatnonzero(steps * np.sign(degrees[-1] - degrees[0]) <= 0)[0]) if degrees.size > 1 else 0
        raise UserError(
            f"the {degrees.size} latitudes of {where} must rise or fall from row to row, two at least; "
            f"{', '.join(f'{value:g}' for value in degrees[at : at + 2])} do not. Sort the store by latitude"
        )
    if np.abs(degrees).max() > 90 + 1e-6:
        raise UserError(
            f"the latitudes of {where} must lie within [-90, 90] degrees, got {degrees.min():g} to {degrees.max():g}; "
            "correct them or their units"
        )
    if not limited:
        gaps = 90 - np.abs(degrees[[0, -1]]) > 1.01 * np.abs(steps[[0, -1]])
        if gaps.any() or degrees[0] * degrees[-1] > 0:
            raise UserError(_regional(where, "latitudes", degrees, " They look like radians" * _is_radians(degrees)))
        if np.abs(steps).max() > WIDEST * np.median(np.abs(steps)):
            at = int(np.abs(steps).argmax())
            raise UserError(
                f"the latitudes of {where} leave out what lies between {degrees[at]:g} and {degrees[at + 1]:g} "
                f"degrees, where other rows are {np.median(np.abs(steps)):g} degrees apart. Add these rows, or set "
                "data.region to limited"
            )
    return degrees


def longitudes(
    values: np.ndarray, units: str, where: str, *, limited: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """The longitudes [lon] in degrees, float64, ascending within [0, 360), and the store's columns in that order.

    The second is int64 [lon], or None where the columns are in order. `where` is what messages call the store; unless
    `limited`, the columns must lie evenly around the globe.

    Raises
    ------
    UserError
        If they are not numbers that rise or fall around the globe without repeats, or cover a part of it only.
    """
    given = _numbers(values, units, "degree", "longitude", where)
    degrees = np.mod(given, 360.0)
    degrees = np.where(degrees >= 360.0, 0.0, degrees)  # of a tiny negative number mod is 360 itself
    columns = np.argsort(degrees, kind="stable")
    ordered = degrees[columns]
    closing = np.append(np.diff(ordered), ordered[0] + 360 - ordered[-1])  # the last to the first, around the globe
    if np.abs(given).max() > 720:
        raise UserError(
            f"the longitudes of {where} run from {given.min():g} to {given.max():g}, which are no degrees; correct "
            "them or their units"
        )
    if given.size < 2 or (closing < 1e-6).any():
        at = int(closing.argmin())
        raise UserError(
            f"the longitudes of {where} must be different places, two at least; columns {columns[at]} and "
            f"{columns[(at + 1) % columns.size]} both are at {ordered[at]:g} degrees. Drop the repeats"
        )
    turns = np.mod(np.diff(columns), columns.size)
    if not ((turns == 1).all() or (turns == columns.size - 1).all()):
        raise UserError(
            f"the longitudes of {where} must rise or fall from column to column, but for one step over the end of the "
            f"circle; got {', '.join(f'{value:g}' for value in given[:6])}, ... Sort the store by longitude"
        )
    if not limited:
        step = 360 / columns.size
        if np.abs(closing - step).max() > EVENNESS * step + 1e-4:
            hint = " They look like radians" * bool(given.max() - given.min() < 2 * np.pi + 1e-6)
            raise UserError(_regional(where, "longitudes", given, hint))
    return ordered, None if (np.diff(columns) == 1).all() else columns


def levels(values: np.ndarray, units: str, component: str, where: str) -> np.ndarray:
    """The levels [level] of a component, float64: hPa in the atmosphere, metres of depth in the ocean.

    Raises
    ------
    UserError
        If they are not numbers that rise or fall strictly, or cannot be pressures or depths.
    """
    quantity = LEVELS[component]
    native = _numbers(values, units, quantity.units, "level", where)
    steps = np.diff(native)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise UserError(
            f"the levels of {where} must rise or fall from one to the next; got "
            f"{', '.join(f'{value:g}' for value in native[:8])}. Sort the store by level"
        )
    if native.size and not (native.min() >= quantity.low and native.max() <= quantity.high):
        raise UserError(
            f"the levels of {where} run from {native.min():g} to {native.max():g} {quantity.units}; they must lie "
            f"within {quantity.low:g} to {quantity.high:g}. Correct the values, or give the coordinate its true units"
        )
    return native


def decoded_times(variable: xr.Variable, where: str) -> np.ndarray:
    """The stamps [time] of an encoded time coordinate with CF attributes, datetime64[ns]; not yet checked.

    Raises
    ------
    UserError
        If its units or its calendar are none that are known here.
    """
    cure = 'give it CF attributes such as units="hours since 1970-01-01" and calendar="standard"'
    units, calendar = (str(variable.attrs.get(key, "")) for key in ("units", "calendar"))
    if variable.dtype.kind == "M":  # as zarr's format 3 may hold them
        units, calendar = "seconds since 1970-01-01", ""
    elif variable.dtype.kind not in "iuf":
        raise UserError(f"time of {where} holds {variable.dtype}, no numbers; {cure}")
    if "since" not in units:
        raise UserError(f"time of {where} has the units {units[:60]!r}, not a unit since a date; {cure}")
    if strange := [word for word in re.findall(r"[A-Za-z]+", units.partition("since")[2]) if not _of_dates(word)]:
        raise UserError(
            f"time of {where} has the units {units[:60]!r}; {strange[0][:60]!r} is no part of a date that is known. "
            "Write the difference to UTC as in +09:00, or give the date in UTC"
        )
    if (calendar or "standard").lower() not in CALENDARS:
        raise UserError(
            f"time of {where} has the calendar {calendar[:60]!r}; only the dates of {', '.join(CALENDARS)} can be "
            "read. Convert the store to one of these"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of years that are refused below
            values = xr.decode_cf(xr.Dataset({"time": variable}), decode_timedelta=False)["time"].values
        if np.issubdtype(values.dtype, np.datetime64):
            seconds = values.astype("datetime64[s]")  # nanoseconds would wrap around
            if seconds.size and not np.isnat(seconds).any():
                _check_years(seconds, where)
            return values.astype("datetime64[ns]")
        _check_years(np.array([np.datetime64(f"{value.year:04d}", "Y") for value in values]), where)
        # dates of a foreign calendar keep what they show
        return np.array([np.datetime64(value.isoformat(), "ns") for value in values], "datetime64[ns]")
    except UserError:
        raise
    # xarray and cftime raise errors of many classes for what they cannot read.
    except Exception as error:
        told = " ".join(str(error).split())[:160]
        raise UserError(f"time of {where} with the units {units[:60]!r} cannot be read ({told}); {cure}") from error


def check_stamps(times: np.ndarray, where: str) -> None:
    """Check that stamps, datetime64[ns] [time], are there and strictly increase.

    Raises
    ------
    UserError
        Naming the first that is missing, comes twice or is out of order.
    """
    if np.isnat(times).any():
        raise UserError(
            f"time of {where} has no value at place {int(np.isnat(times).argmax())}; every stamp must have its time"
        )
    steps = np.diff(times) <= np.timedelta64(0)
    if steps.any():
        at = int(steps.argmax())
        one, other = (str(times[place].astype("datetime64[m]")) for place in (at, at + 1))
        told = f"{other} comes twice" if one == other else f"{other} comes after {one}"
        raise UserError(f"the stamps of {where} must increase strictly, but {told}; sort the store by time, once each")


def _of_dates(word: str) -> bool:
    """Whether a word may be part of a date: xarray reads past others, such as the name of another time zone."""
    return word.upper() in ("T", "Z", "UTC", "GMT") or word[:3].lower() in MONTHS


def _check_years(times: np.ndarray, where: str) -> None:
    years = times.astype("datetime64[Y]").astype(int) + 1970
    if years.size and not (YEARS[0] <= years.min() and years.max() <= YEARS[1]):
        raise UserError(
            f"the stamps of {where} lie in the years {years.min()} to {years.max()}; those from {YEARS[0]} to "
            f"{YEARS[1]} can be read. Correct the coordinate or its units"
        )


def _numbers(values: Any, units: str, wanted: str, name: str, where: str) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise UserError(f"the {name}s of {where} are {values.dtype} {list(values.shape)}, not a list of numbers")
    if not values.size:
        raise UserError(f"the store {where} has no {name}s at all; it may have been cut, or its metadata are damaged")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        at = int((~np.isfinite(values)).argmax())
        raise UserError(
            f"the {name} of {where} at place {at} is {values[at]:g}, not a number; a chunk of the coordinate may be "
            "missing"
        )
    if name in NEGATIVE and NEGATIVE[name][0].search(units):
        raise UserError(
            f"the {name} of {where} is in {units[:60]!r}; here it counts positive to the {NEGATIVE[name][1]}. Turn the "
            f"signs of its values, and give it the units degrees_{NEGATIVE[name][1]}"
        )
    return conversion(units, wanted, f"the {name} of {where}").apply(values)


def _is_radians(degrees: np.ndarray) -> bool:
    return bool(np.abs(degrees).max() <= np.pi / 2 + 1e-6)


def _regional(where: str, name: str, values: np.ndarray, hint: str) -> str:
    return (
        f"the {values.size} {name} of {where}, from {values[0]:g} to {values[-1]:g} degrees, do not lie evenly around "
        f"the globe.{hint}{': set their units.' if hint else ''} Set data.region to limited if the store is meant to "
        "cover a part of it"
    )
