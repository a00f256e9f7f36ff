"""What stores in WeatherBench2's layout may get wrong, each with one clear error, and names that can be put right.

The official code stops at some of these with an error from deep inside, and turns others into NaN without a word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.replay.units import Conversion, conversion
from graphufs.vocabulary.variables import TABLE

UNITS = {one.weatherbench: one.units for one in TABLE if one.units in ("K", "Pa", "m s-1", "m2 s-2", "kg kg-1")}
"""By variable, of those whose units labels tell."""
ALIASES = {
    "prediction_timedelta": ("lead_time", "step", "lead"),
    "time": ("init_time", "initial_time", "forecast_reference_time", "valid_time"),
    "latitude": ("lat", "y", "grid_yt"),
    "longitude": ("lon", "x", "grid_xt"),
    "level": ("pressure_level", "plev", "isobaricInhPa", "lev"),
    "hour": ("hour_of_day", "hourofday"),
    "dayofyear": ("day_of_year", "doy"),
}
"""Other names that dimensions are often found under."""

ENSEMBLE = ("number", "realization", "ensemble", "member")
"""The names of the dimension of members."""


def parse_renames(text: str) -> dict[str, str]:
    """Renames from text: `lead_time=prediction_timedelta,lat=latitude`, or WeatherBench2's JSON object.

    Raises
    ------
    UserError
        If it is neither.
    """
    try:
        pairs = (
            list(json.loads(text).items())
            if text.lstrip().startswith("{")
            else [part.split("=") for part in text.split(",") if part.strip()]
        )
        renames = {str(old).strip(): str(new).strip() for old, new in pairs}
    except ValueError:
        raise UserError(f"cannot read the renames {text!r}; write old=new, several with commas between") from None
    if not all(renames) or not all(renames.values()) or len(set(renames.values())) < len(renames):
        raise UserError(f"the renames {text!r} leave out a name or give the same name twice; write old=new")
    return renames


def renamed(dataset: xr.Dataset, names: Mapping[str, str], origin: str) -> xr.Dataset:
    """The dataset with dimensions and variables renamed.

    Raises
    ------
    UserError
        If an old name is not there, or a new one is there already.
    """
    there = {*map(str, dataset.variables), *map(str, dataset.dims)}
    for old, new in names.items():
        if old not in there:
            raise UserError(f"{origin} has no {old} to rename; it has {', '.join(sorted(there))}")
        if new in there and new not in names:
            raise UserError(f"{origin} already has {new}, so {old} cannot be renamed to it")
    return dataset.rename(dict(names))


def require_dimension(dataset: xr.Dataset, name: str, origin: str, what: str) -> None:
    """Check that a dimension with a coordinate is there.

    Raises
    ------
    UserError
        If not; the message tells of a likely other name.
    """
    if name in dataset.coords and dataset[name].dims == (name,):
        return
    there = [alias for alias in ALIASES.get(name, ()) if alias in dataset.dims or alias in dataset.coords]
    cure = f"; rename {there[0]} ({there[0]}={name})" if there else ""
    raise UserError(
        f"{origin} has no dimension {name} with a coordinate{cure}. Its dimensions are "
        f"{', '.join(map(str, dataset.dims))}; {what}"
    )


def check_forecasts(dataset: xr.Dataset, origin: str) -> None:
    """Check the axes of time of a forecast store.

    Raises
    ------
    UserError
        Naming the defect.
    """
    what = "forecasts need time (the initial time) and prediction_timedelta"
    for name in ("time", "prediction_timedelta"):
        require_dimension(dataset, name, origin, what)
    if dataset["time"].dtype.kind != "M":
        raise UserError(f"time of {origin} holds {dataset['time'].dtype}, not times; store it with CF units")
    if dataset["prediction_timedelta"].dtype.kind != "m":
        raise UserError(
            f"prediction_timedelta of {origin} reads as {dataset['prediction_timedelta'].dtype}, not as durations: "
            'give it the attributes units="hours" and dtype="timedelta64[ns]"'
        )
    for name, values in (("initial time", dataset["time"]), ("lead time", dataset["prediction_timedelta"])):
        _require_values(values, origin)
        if len(np.unique(values)) < values.size:
            raise UserError(f"{origin} holds the same {name} more than once")
    if (dataset["prediction_timedelta"].values < np.timedelta64(0, "ns")).any():
        raise UserError(f"prediction_timedelta of {origin} has values below 0; leads count from the initial time on")
    members = member_dimension(dataset, origin)
    _check_variables(dataset, origin, {"time", "prediction_timedelta", *([members] if members else [])})


def member_dimension(dataset: xr.Dataset, origin: str) -> str | None:
    """The dimension of a forecast store's members; None where it holds single forecasts.

    Raises
    ------
    UserError
        If there are two, or it has no member or the same one twice.
    """
    fields = [array for array in dataset.values() if {"latitude", "longitude"} <= set(array.dims)]
    there = [name for name in ENSEMBLE if any(name in array.dims for array in fields)]
    if not there:
        return None
    if len(there) > 1:
        raise UserError(f"{origin} has members along {' and '.join(there)}; keep one of them, or stack them into one")
    name = there[0]
    if not dataset.sizes[name]:
        raise UserError(f"{origin} has the dimension {name} without a member; there must be at least one")
    if name in dataset.coords and len(np.unique(dataset[name])) < dataset.sizes[name]:
        raise UserError(f"{origin} holds the same {name} more than once; drop the repeats")
    return name


def check_observations(dataset: xr.Dataset, origin: str) -> None:
    """Check the axis of time of observations.

    Raises
    ------
    UserError
        Naming the defect.
    """
    if "prediction_timedelta" in dataset.dims:
        raise UserError(f"{origin} has the dimension prediction_timedelta: it holds forecasts, not observations")
    require_dimension(dataset, "time", origin, "observations need time (the valid time)")
    if dataset["time"].dtype.kind != "M":
        raise UserError(f"time of {origin} holds {dataset['time'].dtype}, not times; store it with CF units")
    _require_values(dataset["time"], origin)
    if len(np.unique(dataset["time"])) < dataset.sizes["time"]:
        raise UserError(f"{origin} holds the same time more than once; drop the repeats")
    _check_variables(dataset, origin, {"time"})


def check_climatology(dataset: xr.Dataset, origin: str) -> None:
    """Check the hours and days of a climatology.

    Raises
    ------
    UserError
        Naming the defect.
    """
    for name, low, high in (("hour", 0, 23), ("dayofyear", 1, 366)):
        require_dimension(dataset, name, origin, "a climatology needs hour and dayofyear")
        values = dataset[name].values
        if values.dtype.kind not in "iuf" or not np.isin(values, np.arange(low, high + 1)).all():
            raise UserError(f"{name} of {origin} must hold whole numbers from {low} to {high}")
        if len(np.unique(values)) < len(values):
            raise UserError(f"{origin} holds the same {name} more than once")
    _check_variables(dataset, origin, {"hour", "dayofyear", "quantile"})


def _require_values(times: xr.DataArray, origin: str) -> None:
    if np.isnat(times.values).any():
        at = int(np.isnat(times.values).argmax())
        raise UserError(f"{times.name} of {origin} has no value at place {at}; write the store without it")


def _check_variables(dataset: xr.Dataset, origin: str, leading: set[str]) -> None:
    known = leading | {"level", "latitude", "longitude"}
    for name, array in dataset.items():
        on_grid = {"latitude", "longitude"} <= set(array.dims)
        if on_grid and (ensemble := [dim for dim in ENSEMBLE if dim in array.dims and dim not in known]):
            raise UserError(
                f"{name} of {origin} is an ensemble along {ensemble[0]}; only forecasts may be one: take its mean or "
                "one member"
            )
        if on_grid and leading & set(array.dims) and (strange := [str(d) for d in array.dims if d not in known]):
            raise UserError(f"{name} of {origin} has the dimension {strange[0]}, which the layout does not know")
        if on_grid and leading & set(array.dims) and array.dtype.kind not in "iuf":
            raise UserError(f"{name} of {origin} holds {array.dtype}, not real numbers; write it as float32")
        units = str(array.attrs.get("units", ""))
        if str(name) in UNITS and (wrong := _other_units(units, UNITS[str(name)])):
            raise UserError(
                f"{name} of {origin} is in {wrong}; WeatherBench2 has it in {UNITS[str(name)]}: convert it, or correct "
                "its attribute units"
            )
        if str(name).startswith("total_precipitation") and units in ("mm", "kg m-2", "kg/m2", "kg/m**2", "kg m**-2"):
            raise UserError(f"{name} of {origin} is in {units}; WeatherBench2 has it in metres: divide by 1000")
    if "level" in dataset.coords:
        levels = dataset["level"].values
        if levels.dtype.kind not in "iuf" or not np.isfinite(levels).all():
            raise UserError(
                f"level of {origin} must hold finite numbers; it holds {levels.dtype}: {levels.tolist()[:9]}"
            )
    if "level" in dataset.coords and str(dataset["level"].attrs.get("units", "")).lower() in ("pa", "pascal"):
        raise UserError(f"the levels of {origin} are in Pa; WeatherBench2 has them in hPa: divide by 100")


def _other_units(given: str, wanted: str) -> str:
    """Units that are understood and are others than those wanted; "" where they are the same, or not understood."""
    try:
        return "" if conversion(given, wanted, "") == Conversion() else given
    except UserError:
        return ""


def phase_mismatch(valid: np.ndarray, stamps: np.ndarray) -> str | None:
    """What to say where no valid time falls on an hour of the day that the truth has; None where some do.

    Valid times may have any shape; `stamps` [time] are those of the truth.
    """

    def hours(times: np.ndarray) -> list[str]:
        of_day = times - times.astype("datetime64[D]")
        return [f"{value / np.timedelta64(1, 'h'):02g}" for value in np.unique(of_day)]

    ours, theirs = hours(np.ravel(valid)), hours(stamps)
    if not theirs or set(ours) & set(theirs):
        return None
    return f"the forecasts are valid at {', '.join(ours)} UTC, the truth only has {', '.join(theirs)} UTC"


def grid_of(dataset: xr.Dataset, origin: str) -> Grid:
    """The grid of a dataset in WeatherBench2's layout.

    Raises
    ------
    UserError
        If latitude or longitude are missing or not as the layout has them.
    """
    for name in ("latitude", "longitude"):
        require_dimension(dataset, name, origin, "rename them to WeatherBench2's names")
    latitude = dataset["latitude"].values.astype(np.float64)
    longitude = dataset["longitude"].values.astype(np.float64)
    if not (np.all(np.diff(latitude) > 0) or np.all(np.diff(latitude) < 0)):
        raise UserError(f"the latitudes of {origin} neither rise nor fall throughout; sort them")
    if np.any(longitude < 0) or np.any(longitude >= 360) or not np.all(np.diff(longitude) > 0):
        raise UserError(
            f"the longitudes of {origin} run from {longitude[0]:g} to {longitude[-1]:g}; WeatherBench2 needs them "
            "ascending within 0 to 360: roll the grid"
        )
    if (longitude.size > 1 and latitude.size) and (which := _in_radians(latitude, longitude)):
        raise UserError(f"the {which} of {origin} look like radians; WeatherBench2 has them in degrees: convert them")
    return Grid(latitude, longitude)


def _in_radians(latitude: np.ndarray, longitude: np.ndarray) -> str:
    """Which coordinate goes once around the globe, or from pole to pole along it, in radians; "" where none does."""
    around = float(longitude[-1] - longitude[0]) * longitude.size / (longitude.size - 1)
    if math.isclose(around, 2 * math.pi, rel_tol=1e-3):
        return "longitudes"
    belt = np.abs(latitude).max() <= math.pi / 2 + 1e-6
    return "latitudes" if belt and latitude.size > 1 and math.isclose(around, 360, rel_tol=1e-3) else ""
