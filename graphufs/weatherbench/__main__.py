"""`python -m graphufs.weatherbench`: score a forecast store against observations, files as WeatherBench2 has them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from graphufs.errors import UserError
from graphufs.weatherbench.conventions import Convention
from graphufs.weatherbench.defects import parse_renames, renamed
from graphufs.weatherbench.layout import open_zarr
from graphufs.weatherbench.results import weatherbench2_results, weatherbench_x_results, write_netcdf
from graphufs.weatherbench.scoring import FORECAST
from graphufs.weatherbench.stores import Wanted, evaluate

app = App(name="python -m graphufs.weatherbench", help=__doc__)

Names = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]


@app.default
def main(
    forecast: str,
    truth: str,
    climatology: str,
    output: Path,
    *,
    variables: Names = (),
    levels: Annotated[tuple[float, ...], Parameter(negative="", consume_multiple=True)] = (),
    derived: Names = (),
    regions: Names = (),
    baselines: Names = (),
    start: str | None = None,
    stop: str | None = None,
    rename: str = "",
    convention: Convention = "WeatherBench2",
    skipna: bool = False,
) -> None:
    """Score deterministic forecasts and write the results where official plotting reads them.

    Parameters
    ----------
    forecast, truth, climatology
        Zarr stores in WeatherBench2's layout: paths, or addresses such as gs://.
    output
        A folder for deterministic.nc and deterministic_temporal.nc, and the same for each baseline.
    variables, levels, regions
        What to score; where not given, everything.
    derived
        Variables to make of others, such as wind_speed.
    baselines
        persistence, climatology.
    start, stop
        The first and last initial time.
    rename
        Names of the forecast store to put right, old=new with commas between.
    convention
        WeatherBench2 or WeatherBench-X.
    skipna
        Leave NaN out of means instead of making them NaN.
    """
    store = open_zarr(forecast)
    if rename:
        store = renamed(store, parse_renames(rename), forecast)
    outcome = evaluate(
        store,
        open_zarr(truth),
        open_zarr(climatology),
        Wanted(
            variables or None,
            levels or None,
            derived,
            regions or None,
            baselines,
            convention,
            skipna,
            _period(start, stop),
        ),
        progress=lambda done, total: print(f"\r{done} of {total} initial times", end="", file=sys.stderr),
    )
    print(file=sys.stderr)
    if outcome.excluded:
        time, missing = next(iter(outcome.excluded.items()))
        print(
            f"{len(outcome.excluded)} initial times left out for want of truth: {time}, say, lacks {missing}",
            file=sys.stderr,
        )
    for name, state in outcome.states.items():
        prefix = "" if name == FORECAST else f"{name}_"
        whole = weatherbench2_results(state) if convention == "WeatherBench2" else weatherbench_x_results(state)
        write_netcdf(output / f"{prefix}deterministic.nc", whole)
        write_netcdf(output / f"{prefix}deterministic_temporal.nc", weatherbench2_results(state, by_initial_time=True))
    print(f"results of {len(outcome.states[FORECAST])} initial times in {output}")


def _period(start: str | None, stop: str | None) -> tuple[np.datetime64, np.datetime64] | None:
    """The wanted initial times; a `stop` that names a day, month or year counts whole, as in WeatherBench2."""
    if start is None and stop is None:
        return None
    try:
        first, last = np.datetime64(start or "1700"), np.datetime64(stop or "2200")
    except ValueError:
        raise UserError(f"cannot read the times {start or ''} to {stop or ''}; write them as 2020-01-31T18") from None
    return first.astype("datetime64[ns]"), (last + 1).astype("datetime64[ns]") - np.timedelta64(1, "ns")


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
