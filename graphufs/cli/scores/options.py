"""Options that commands on stores of any origin share, and what their texts mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from graphufs import masking, reading
from graphufs.config.base import YEARS
from graphufs.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Names = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]


def point_of(text: str) -> tuple[float, float]:
    """A point of the report, latitude and longitude.

    Raises
    ------
    UserError
        If the text is no such point.
    """
    try:
        latitude, longitude = map(float, text.split(","))
    except ValueError:
        latitude = longitude = float("nan")
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 360):
        raise UserError(
            f"cannot read the point {reading.cut(text)}; write latitude,longitude in degrees without a space, -90 "
            "to 90 and -180 to 360: 52.5,13.4"
        )
    return latitude, longitude


def storage_of(text: str, name: str | None) -> dict[str, Any]:
    """Options of storage from JSON, and those of a name.

    Raises
    ------
    UserError
        If the text is no JSON object, or there is nothing of that name.
    """
    from graphufs.storage.credentials import named

    try:
        options = reading.parse_json(text or "{}")
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise UserError(
            'the storage options given are no JSON object; write a JSON object such as \'{"token": "anon"}\''
        )
    masking.options(options)  # remembered, to be kept out of messages
    return options if name is None else {**named(name), **options}


def period_of(start: str | None, stop: str | None) -> tuple[np.datetime64, np.datetime64] | None:
    """The wanted initial times; a `stop` that names a day, month or year counts whole, as in WeatherBench2.

    Raises
    ------
    UserError
        If one is no time.
    """
    import numpy as np

    if start is None and stop is None:
        return None
    try:
        first, last = np.datetime64(start or f"{YEARS[0]}"), np.datetime64(stop or f"{YEARS[1]}")
        years = [int(time.astype("datetime64[Y]").astype(int)) + 1970 for time in (first, last)]
    except (ValueError, OverflowError):
        years = [0]
    if not all(YEARS[0] <= year <= YEARS[1] for year in years):
        times = " to ".join(reading.cut(time) for time in (start, stop) if time is not None)
        raise UserError(f"cannot read the times {times}; write them as 2020-01-31T18, from {YEARS[0]} to {YEARS[1]}")
    return first.astype("datetime64[ns]"), (last + 1).astype("datetime64[ns]") - np.timedelta64(1, "ns")
