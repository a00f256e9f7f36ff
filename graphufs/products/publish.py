"""The step `publish`: forecasts in the formats of `forecast.products`, in a folder for each initial time.

<root>/published/<experiment>-<run>-<update>/<YYYYMMDD>/<HH>/1995010106.nc, .grib2, .zarr
                                                             checksums.json

A folder appears whole or not at all. Its list of checksums says what the files were made of, so that they are made anew
when that is something else: other members, a longer lead time, another grid, more formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config.experiment import Experiment
from graphufs.errors import Stopped, UserError
from graphufs.forecast.step import finished_checkpoint
from graphufs.products import grib2, stac
from graphufs.products.convert import ENDINGS, Format, convert, stamp
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage.atomic import new_folder
from graphufs.storage.checksums import (
    CHECKSUMS,
    Damaged,
    differences,
    files_of,
    listed,
    read_checked,
    write_checked,
)
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths, identity_of_members
from graphufs.storage.zarr_io import open_zarr, require_whole
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.on_grid import forecasts_on

FORMAT = 1
"""Raised by hand when the code changes what is published."""


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Publish an experiment's forecasts; see graphufs.steps.Run. What is published already stays as it is.

    Raises
    ------
    UserError
        If no format is named, the forecasts are not there, or a format cannot hold them.
    Stopped
        After a polite stop; what is published so far stays.
    """
    paths, wanted = Paths(experiment, root), experiment.forecast.products
    if not wanted:
        raise UserError(
            f"forecast.products of {experiment.name} names no format to publish; there are netcdf, grib2 and zarr, "
            "as in --set 'forecast.products=[netcdf]'"
        )
    require_whole(paths.forecasts, "forecast")
    checkpoint = finished_checkpoint(paths)
    place = paths.published(checkpoint.name)
    made_of = {
        "format": FORMAT,
        "formats": sorted(wanted),
        "grid": experiment.forecast.products_grid,
        "checkpoint": checkpoint.relative_to(paths.root).as_posix(),
        "lead_time": experiment.forecast.lead_time,
        "batch_size": experiment.forecast.batch_size,  # of which results depend by rounding
        **identity_of_members(experiment),
    }
    sources, warnings = _sources(paths.forecasts, experiment)
    times = np.sort(next(iter(sources.values())).initial_times)
    waiting = Event("waiting for another process that publishes the same model", 0, 1)
    new = 0
    with locked(place, should_stop=should_stop, waiting=lambda: progress(waiting)):
        for number, time in enumerate(times):
            folder = place / stamp(time)[:8] / stamp(time)[8:]
            if not _is_there(folder, made_of):
                if should_stop():
                    raise Stopped(f"stopped after {number} of {len(times)} initial times; what is published stays")
                _publish(folder, sources, time, experiment.name, made_of)
                new += 1
            progress(Event("published", number + 1, len(times), "initial times"))
    stac.write(paths.root)
    told = {"warnings": warnings} if warnings else {}
    return {
        "status": "completed" if new else "unchanged",
        "published": place.relative_to(paths.root).as_posix(),
        "initial_times": len(times),
        "new": new,
        **told,
    }


def _sources(store: Path, experiment: Experiment) -> tuple[dict[Format, Forecasts], list[str]]:
    """What each format is made of, on the grid asked for; and what it leaves out."""
    dataset, found, warnings = open_zarr(store), {}, []
    for to in experiment.forecast.products:
        names = None
        if to == "grib2":
            grib2.require()
            names = [str(name) for name in dataset if name in grib2.SHORT_NAMES]
            if left := [str(name) for name in dataset if name not in grib2.SHORT_NAMES]:
                warnings.append(f"GRIB2 has no parameter here for {', '.join(left)}, which is left out of it")
        forecasts = Forecasts(dataset, names, origin=str(store))
        found[to], _ = forecasts_on(experiment.forecast.products_grid, forecasts, "conservative")
    return found, warnings


def _publish(
    folder: Path, sources: dict[Format, Forecasts], time: np.datetime64, experiment: str, made_of: dict[str, Any]
) -> None:
    with new_folder(folder) as temporary:
        for to, forecasts in sources.items():
            convert(forecasts, to, temporary / f"{stamp(time)}{ENDINGS[to][0]}", period=(time, time))
        about = {"experiment": experiment, **stac.place_and_time(next(iter(sources.values())), time)}
        write_checked(temporary / CHECKSUMS, {"made_of": made_of, "about": about, "files": files_of(temporary)})


def _is_there(folder: Path, made_of: dict[str, Any]) -> bool:
    try:
        content = read_checked(folder / CHECKSUMS)
        files = listed(content) or {}
    except (OSError, Damaged):
        return False
    return content.get("made_of") == made_of and not any(differences(folder, files, thorough=False))
