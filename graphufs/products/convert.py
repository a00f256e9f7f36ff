"""A forecast store in WeatherBench2's layout, converted run by run into what other tools read.

NetCDF and GRIB2 have a file for each initial time, named by it (1995010106.nc, 1995010106.grib2), in one folder that
appears whole. Where a file is asked for, by its ending, there must be one initial time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from graphufs.errors import Stopped, UserError
from graphufs.grid.regridding import Method
from graphufs.products import grib2, netcdf, zarr_store
from graphufs.products.run import run
from graphufs.steps import ShouldStop, never_stop
from graphufs.storage.atomic import new_folder
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.on_grid import forecasts_on

Format = Literal["netcdf", "grib2", "zarr"]
ENDINGS: dict[str, tuple[str, ...]] = {
    "netcdf": (".nc", ".nc4", ".netcdf"),
    "grib2": (".grib2", ".grb2", ".grib"),
    "zarr": (".zarr",),
}
"""By format, the endings of its files; the first is what they are given."""


@dataclass(frozen=True)
class Conversion:
    """What a conversion made."""

    path: Path
    initial_times: int
    files: int
    displacement: float = 0.0
    """Degrees by which rows of a NetCDF's grid lie off an even spacing from the first two, as MET takes them."""


def convert(
    forecasts: Forecasts,
    to: Format,
    output: Path,
    *,
    period: tuple[np.datetime64, np.datetime64] | None = None,
    grid: str = "native",
    regridding: Method = "conservative",
    bits: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: ShouldStop = never_stop,
) -> Conversion:
    """Write forecasts from the initial times in a period, both ends included, as `to` says; all appears at once.

    What an earlier conversion to the same format left at `output` is replaced.

    Raises
    ------
    UserError
        If there is no such initial time, the format cannot hold the forecasts, or something else lies at `output`.
    Stopped
        If `should_stop()` turned true; nothing appears then.
    """
    if to == "grib2":
        grib2.require()
    if forecasts.gaussian:
        raise UserError(f"{forecasts.origin} holds normal distributions; convert its means, or an ensemble")
    forecasts, _ = forecasts_on(grid, forecasts, regridding)
    _require_fields(forecasts)
    times = np.sort(forecasts.initial_times)
    if period is not None:
        times = times[(times >= period[0]) & (times <= period[1])]
    if not times.size:
        first, last = (str(time.astype("datetime64[m]")) for time in np.sort(forecasts.initial_times)[[0, -1]])
        raise UserError(f"{forecasts.origin} has no initial time in this period; it has some from {first} to {last}")
    alone = to != "zarr" and output.suffix in ENDINGS[to]
    if alone and len(times) > 1:
        raise UserError(
            f"{output} is one file, and there are {len(times)} initial times; name a folder for a file each, or one "
            "initial time by --start and --stop"
        )
    require_replaceable(output, to, alone=alone)

    def runs() -> Iterator[xr.Dataset]:
        for number, time in enumerate(times):
            if should_stop():
                raise Stopped(f"stopped after {number} of {len(times)} initial times; repeat it from the beginning")
            yield run(forecasts, time)
            progress(number + 1, len(times))

    if to == "zarr":
        zarr_store.write(output, runs(), times)
    elif alone:
        _write(next(iter(runs())), to, output, bits)
    else:
        with new_folder(output) as temporary:
            for time, one in zip(times, runs(), strict=True):
                _write(one, to, temporary / f"{stamp(time)}{ENDINGS[to][0]}", bits)
    moved = netcdf.displacement(forecasts.grid.latitude) if to == "netcdf" else 0.0
    return Conversion(output, len(times), 1 if alone or to == "zarr" else len(times), moved)


def _require_fields(forecasts: Forecasts) -> None:
    """See that there is something to write, which the formats' names and times can tell apart."""
    if not forecasts.leads.size or min(forecasts.grid.shape) < 2:
        rows, columns = forecasts.grid.shape
        raise UserError(
            f"{forecasts.origin} has {forecasts.leads.size} leads on {columns}x{rows} points; at least one lead and "
            "two longitudes and latitudes can be converted"
        )
    minute = np.timedelta64(1, "m")
    since = forecasts.initial_times - forecasts.initial_times.astype("datetime64[m]")
    if since.astype(int).any() or (forecasts.leads % minute).astype(int).any():
        raise UserError(f"{forecasts.origin} has initial or lead times between whole minutes, which no format here has")


def stamp(time: np.datetime64) -> str:
    """An initial time as files are named by it: 1995010106, with minutes where there are any."""
    text = str(time.astype("datetime64[m]")).translate(str.maketrans("", "", "-T:"))
    return text.removesuffix("00")


def _write(one: xr.Dataset, to: Format, path: Path, bits: int) -> None:
    if to == "netcdf":
        netcdf.write(path, one)
    else:
        grib2.write(path, one, bits)


def require_replaceable(output: Path, to: Format, *, alone: bool) -> None:
    """See that nothing is lost at `output` but what an earlier conversion made; `alone` is whether it is one file.

    Raises
    ------
    UserError
        If something else lies there.
    """
    if not output.exists():
        return
    if alone:
        ours = output.is_file()
    elif to == "zarr":
        ours = (output / ".zmetadata").is_file()
    else:
        ours = output.is_dir() and all(one.name.endswith(ENDINGS[to][0]) for one in output.iterdir())
    if not ours:
        raise UserError(f"{output} is there already and no earlier conversion to {to}; name another place")
