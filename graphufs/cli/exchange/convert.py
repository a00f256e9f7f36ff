"""`graphufs convert`: forecasts as NetCDF, GRIB2 or zarr for tools that read those, and what they are scored against.

The truth and the climatology of an experiment are written in WeatherBench2's layout, for any tool that scores by it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators

from graphufs.cli.app import Json
from graphufs.cli.ending import DONE, STOPPED
from graphufs.cli.scores.options import Names, period_of, storage_of
from graphufs.cli.terminal import Bars, console, polite_stop
from graphufs.config import loading
from graphufs.errors import Stopped, UserError
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
    what: Literal["forecasts", "truth", "climatology"] = "forecasts",
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
    Truth and climatology of an experiment, from whatever source it was prepared, are zarr in WeatherBench2's layout.

    Parameters
    ----------
    forecast
        A store in WeatherBench2's layout, ensembles too, or an experiment's file, whose forecasts are meant.
    to
        grib2 needs ecCodes: pip install 'graphufs[grib]'.
    output
        A folder; or for one initial time a file, ending in .nc or .grib2; or a zarr store.
    what
        forecasts; or of an experiment's file the truth, or the climatology, made of its prepared data.
    variables
        By their names in the store, which are WeatherBench2's. [default: all]
    start, stop
        The first and last initial time, or stamp. [default: all; of a climatology the experiment's period for it]
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

    if what != "forecasts":
        return _reference(
            forecast,
            what,
            to,
            output.expanduser().absolute(),
            root,
            json_,
            variables=variables,
            period=period_of(start, stop),
            grid=grid,
            regridding=regridding,
        )
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


def _reference(
    file: str,
    what: Literal["truth", "climatology"],
    to: str,
    output: Path,
    root: Path | None,
    json_: bool,
    **options: Any,
) -> int:
    """Write the truth or the climatology of an experiment's file as a zarr store; `options` are `write_reference`'s.

    Raises
    ------
    UserError
        If it is no experiment's file, or another format than zarr is asked for.
    """
    from graphufs.data.dataset import PreparedData
    from graphufs.products.references import write_reference

    if Path(file).suffix not in (".yaml", ".yml"):
        raise UserError(f"--what {what} is of an experiment, and {file} is no experiment's file; name one")
    if to != "zarr":
        raise UserError(f"WeatherBench2 has its {what} as zarr; say --to zarr, not {to}")
    experiment = loading.load(file)
    prepared = PreparedData.open(Paths(experiment, root_folder(root)).data)
    shown = console(stderr=True)
    try:
        with polite_stop(shown) as should_stop, Bars(shown, "convert") as bars:
            count = write_reference(
                what,
                experiment,
                prepared,
                output,
                progress=lambda done, total: bars(Event(what, done, total, "stamps")),
                should_stop=should_stop,
                **options,
            )
    except Stopped as stopped:
        shown.print(str(stopped), style="yellow")
        return STOPPED
    if json_:
        print(json.dumps({"path": str(output), "stamps": count}, indent=2))
    else:
        print(f"{what} of {count} stamps in {output}")
    return DONE
