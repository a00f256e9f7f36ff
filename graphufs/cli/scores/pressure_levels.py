"""`graphufs pressure-levels`: Replay's layers interpolated to levels that other forecasts have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from graphufs.cli.ending import DONE
from graphufs.cli.scores.options import Names, period_of, storage_of
from graphufs.cli.terminal import Bars, console
from graphufs.config.base import LONGEST_HOURS
from graphufs.masking import address
from graphufs.steps import Event


def pressure_levels(
    source: str,
    output: Path,
    *,
    variables: Names,
    levels: Annotated[tuple[float, ...], Parameter(negative="", consume_multiple=True)] = (),
    start: str | None = None,
    stop: str | None = None,
    every: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=LONGEST_HOURS))] = 6,
    sigma: Annotated[bool, Parameter(negative="")] = False,
    storage_options: str = "",
    storage: str | None = None,
) -> int:
    """Write Replay on pressure levels from a store with all its layers, to be scored or scored against.

    Layers are interpolated linearly in the logarithm of pressure; below the lowest one (and so below the ground) and
    above the uppermost there is NaN: score with --skipna.

    Parameters
    ----------
    source
        A Replay store.
    output
        A zarr store to write, in WeatherBench2's layout for observations.
    variables
        By WeatherBench2's names, such as temperature and 2m_temperature.
    levels
        Pressure levels in hPa.
    start, stop
        The first and last stamp.
    every
        Hours between stamps.
    sigma
        The store's layers are fractions of the surface pressure, as the embedded world's.
    storage_options
        Options for fsspec as JSON.
    storage
        The name of credentials, as data.source.storage in experiments.
    """
    import numpy as np

    from graphufs.replay.pressure_level_store import write_pressure_levels
    from graphufs.replay.source import open_store

    store = open_store(address(source), "fv3", storage_of(storage_options, storage))
    period = period_of(start, stop)
    stamps = store.times
    if period is not None:
        stamps = stamps[(stamps >= period[0]) & (stamps <= period[1])]
    if stamps.size:
        stamps = stamps[(stamps - stamps[0]) % np.timedelta64(every, "h") == np.timedelta64(0)]
    with Bars(console(stderr=True), "pressure levels") as bars:
        write_pressure_levels(
            store,
            output,
            variables,
            levels,
            stamps,
            sigma=sigma,
            progress=lambda done, total: bars(Event("stamps", done, total)),
        )
    print(f"{len(stamps)} stamps in {output}")
    return DONE
