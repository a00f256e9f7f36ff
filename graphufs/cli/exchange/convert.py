"""`graphufs convert`: forecasts as NetCDF, GRIB2 or zarr, for the tools that read those."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from graphufs.cli.app import Json
from graphufs.cli.ending import DONE, STOPPED
from graphufs.cli.scores.options import Names, period_of, storage_of
from graphufs.cli.terminal import Bars, console, polite_stop
from graphufs.config import loading
from graphufs.errors import Stopped
from graphufs.masking import address
from graphufs.steps import Event
from graphufs.storage.paths import Paths, root_folder

MOVED = 0.01
"""Degrees that rows may lie off without a word."""


def convert(
    forecast: str,
    *,
    to: Literal["netcdf", "grib2", "zarr"],
    output: Path,
    variables: Names = (),
    start: str | None = None,
    stop: str | None = None,
    grid: str = "native",
    regridding: Literal["conservative", "bilinear", "nearest"] = "conservative",
    bits: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=32))] = 16,
    storage_options: str = "",
    storage: str | None = None,
    root: Path | None = None,
    json_: Json = False,
) -> int:
    """Write forecasts as other tools read them: CF-1.11 NetCDF (also for MET), GRIB2, or zarr for object stores.

    NetCDF and GRIB2 have a file for each initial time; all appear at once. What an earlier conversion made is replaced.

    Parameters
    ----------
    forecast
        A store in WeatherBench2's layout, ensembles too, or an experiment's file, whose forecasts are meant.
    to
        grib2 needs ecCodes: pip install 'graphufs[grib]'.
    output
        A folder; or for one initial time a file, ending in .nc or .grib2; or a zarr store.
    variables
        By their names in the store. [default: all]
    start, stop
        The first and last initial time. [default: all]
    grid
        native, or longitudes x latitudes of an evenly spaced one, such as 360x181, to bring fields to.
    regridding
        How fields are brought to another grid.
    bits
        Of a value in GRIB2: 16 keep a field to 1/65536 of its range.
    storage_options
        Options for fsspec as JSON.
    storage
        The name of credentials, as data.source.storage in experiments.
    root
        Where an experiment's forecasts lie. [default: $GRAPHUFS_ROOT, else ./graphufs-root]
    json_
        Print what was made as JSON.
    """
    from graphufs.products import convert as products
    from graphufs.storage.zarr_io import is_remote, open_zarr, require_whole
    from graphufs.weatherbench.inputs.forecasts import Forecasts

    place = forecast
    if Path(forecast).suffix in (".yaml", ".yml"):
        place = str(Paths(loading.load(forecast), root_folder(root)).forecasts)
        require_whole(Path(place), "forecast")
    options = storage_of(storage_options, storage) if is_remote(place) else None
    store = open_zarr(address(place), storage_options=options, what="the forecasts")
    shown = console(stderr=True)
    try:
        with polite_stop(shown) as should_stop, Bars(shown, "convert") as bars:
            made = products.convert(
                Forecasts(store, variables or None, origin=place),
                to,
                output.expanduser().absolute(),
                period=period_of(start, stop),
                grid=grid,
                regridding=regridding,
                bits=bits,
                progress=lambda done, total: bars(Event("initial times", done, total)),
                should_stop=should_stop,
            )
    except Stopped as stopped:
        shown.print(str(stopped), style="yellow")
        return STOPPED
    if made.displacement > MOVED:
        shown.print(
            f"rows of this grid are not evenly spaced: MET takes them to be, and puts them up to "
            f"{made.displacement:.2g} degrees away. --grid brings fields to an even grid",
            style="yellow",
            soft_wrap=True,
        )
    if json_:
        print(json.dumps({**asdict(made), "path": str(made.path)}, indent=2))
    else:
        print(f"{made.initial_times} initial times in {made.path}")
    return DONE
