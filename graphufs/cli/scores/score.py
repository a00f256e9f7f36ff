"""`graphufs score`: any forecasts in WeatherBench2's layout against any truth, without an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from graphufs import parallel
from graphufs.cli.ending import DONE, STOPPED
from graphufs.cli.scores.options import Names, period_of, point_of, storage_of
from graphufs.cli.terminal import Bars, console, polite_stop
from graphufs.errors import Stopped, UserError
from graphufs.masking import address
from graphufs.steps import Event
from graphufs.vocabulary.conventions import Convention

if TYPE_CHECKING:
    pass

Engine = Literal["graphufs", "weatherbench2"]
MAP_LEADS = (24.0, 72.0, 120.0, 240.0)
"""Lead hours of the report's maps and spectra, as an experiment's are unless it says otherwise."""


def score(
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
    grid: str = "native",
    regridding: Literal["conservative", "bilinear", "nearest"] = "conservative",
    convention: Convention = "WeatherBench2",
    skipna: bool = False,
    by_valid: bool = False,
    pressure_level_suffixes: bool = False,
    analyses: bool = False,
    rename: str = "",
    land_sea_mask: str | None = None,
    seeps: str | None = None,
    quantiles: Annotated[tuple[float, ...], Parameter(negative="", consume_multiple=True)] = (),
    thresholds: Literal["quantile", "gaussian_quantile"] | None = None,
    years: Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)] = (),
    lagged: Annotated[int | None, Parameter(validator=validators.Number(gte=2, lte=1000))] = None,
    as_ensemble: Annotated[bool, Parameter(negative="")] = False,
    storage_options: str = "",
    storage: str | None = None,
    format_: Annotated[
        tuple[Literal["netcdf", "zarr"], ...], Parameter(name="--format", negative="", consume_multiple=True)
    ] = ("netcdf",),
    threads: Annotated[int | None, Parameter(validator=validators.Number(gte=1, lte=4096))] = None,
    dask: str | None = None,
    engine: Engine = "graphufs",
    report: Path | None = None,
    points: Names = (),
) -> int:
    """Score forecasts in WeatherBench2's layout, and write results that official plotting reads.

    A forecast store with a dimension number, realization, ensemble or member is scored as an ensemble; one with X_std
    beside each variable X as normal distributions.

    Parameters
    ----------
    forecast, truth, climatology
        Zarr stores in WeatherBench2's layout: paths, or addresses such as gs://.
    output
        A folder for deterministic.nc and deterministic_temporal.nc, and the same for each baseline. Of ensembles these
        are of the mean, and probabilistic.nc, binary.nc (at thresholds) and histograms.nc of the members are added.
    variables, levels, regions
        What to score; where not given, everything.
    derived
        Variables to make of others, such as wind_speed.
    baselines
        persistence, climatology, and for ensembles probabilistic_climatology, whose members are the truth of other
        years at the same days.
    start, stop
        The first and last initial time; a stop that names a day, month or year counts whole.
    grid
        Where scores are computed: native, or longitudes x latitudes such as 64x32 or 240x121.
    regridding
        How fields come to lie on that grid.
    convention
        WeatherBench2 or WeatherBench-X.
    skipna
        Leave NaN out of means instead of making them NaN.
    by_valid
        The forecasts' time is the valid time, not the initial time.
    pressure_level_suffixes
        The forecasts' levels are part of names, as in geopotential_500.
    analyses
        The forecast store holds analyses without leads: they are scored as forecasts of 0 h of themselves.
    rename
        Names of the forecast store to put right, old=new with commas between.
    land_sea_mask
        A store with land_sea_mask; where not given, the truth's own.
    seeps
        A climatology with SEEPS thresholds; where not given, the climatology.
    quantiles
        Quantiles of the climatology that are thresholds of events for ensembles; where not given, all it has.
    thresholds
        Take X_quantile of the climatology, or quantiles of a normal distribution from X_std; where not given, the
        first of the two that is there.
    years
        The members of probabilistic_climatology; where not given, all other years that the truth has whole.
    lagged
        Score an ensemble of so many forecasts from initial times in a row, valid at the same time.
    as_ensemble
        Score single forecasts as ensembles of one member too.
    storage_options
        Options for fsspec as JSON, such as '{"token": "anon"}'; for all addresses with a protocol. Lists of
        processes show it: give credentials by --storage.
    storage
        The name of credentials, as data.source.storage in experiments.
    format_
        Formats of the results.
    threads
        How many initial times are scored at once, each with the memory that one takes. [default: the cores, at most 4]
    dask
        Address of a dask scheduler whose workers see the same files, instead of threads.
    engine
        weatherbench2 runs the official package too, where it is installed, and prints both scores and how far they
        differ.
    report
        An HTML file to write: scores by lead, maps and spectra; of ensembles CRPS, spread over error, rank histograms,
        reliability, spectra of members, and maps of spread beside error.
    points
        Where the report shows each member by lead, as latitude,longitude in degrees: 52.5,13.4. Before a latitude south
        of the equator write --points=-33.9,18.4.

    Raises
    ------
    UserError
        If options exclude each other, or what is scored cannot be.
    """
    from graphufs.weatherbench.inputs.layout_checks import member_dimension, parse_renames
    from graphufs.weatherbench.results.ensemble_files import histogram_results
    from graphufs.weatherbench.results.official_files import (
        parts_of,
        weatherbench2_results,
        weatherbench_x_results,
        write_results,
    )
    from graphufs.weatherbench.score_request import ScoreRequest, StorePaths
    from graphufs.weatherbench.score_stores import evaluate_stores
    from graphufs.weatherbench.scoring.parallel import cores
    from graphufs.weatherbench.scoring.score import FORECAST

    forecast, truth, climatology = map(address, (forecast, truth, climatology))
    stores = StorePaths(
        forecast,
        truth,
        climatology,
        address(land_sea_mask) if land_sea_mask else None,
        address(seeps) if seeps else None,
        parse_renames(rename) if rename else {},
        pressure_level_suffixes,
        analyses,
        storage_of(storage_options, storage),
    )
    wanted = ScoreRequest(
        variables or None,
        levels or None,
        derived,
        regions or None,
        baselines,
        convention,
        skipna,
        period_of(start, stop),
        grid,
        regridding,
        by_valid,
        quantiles,
        years,
        lagged,
        as_ensemble,
        thresholds,
        () if report is None else MAP_LEADS,
    )
    places = [point_of(text) for text in points]
    if places and report is None:
        raise UserError("points are shown on the report: say where to write it with --report FILE.html")
    if engine == "weatherbench2":
        from graphufs.weatherbench.official.engine import require

        require()
        if grid != "native" or analyses:
            raise UserError("the official engine reads files as they are: leave --grid and --analyses out with it")
        if lagged or as_ensemble or "probabilistic_climatology" in baselines:
            raise UserError("the official engine is asked for single forecasts: leave what makes ensembles out with it")
        if member_dimension(stores.open().forecast, "the forecast store") is not None:
            raise UserError("the official engine is asked for single forecasts, and the forecast store has members")
        if convention != "WeatherBench2":
            raise UserError(f"the official engine follows WeatherBench2, not {convention}: leave it out")
    shown = console(stderr=True)
    try:
        with polite_stop(shown) as should_stop, Bars(shown, "score") as bars, parallel.connected(dask, "--dask"):
            outcome = evaluate_stores(
                stores,
                wanted,
                threads=threads or cores(),
                progress=lambda done, total: bars(Event("scores", done, total, "initial times")),
                should_stop=should_stop,
            )
    except Stopped as stop:
        shown.print(str(stop))
        return STOPPED
    if outcome.excluded:
        time, missing = next(iter(outcome.excluded.items()))
        shown.print(
            f"{len(outcome.excluded)} initial times are left out because truth is missing: for example, {time} has "
            f"none at {missing}",
            soft_wrap=True,
        )
    for note in outcome.notes:
        shown.print(note, soft_wrap=True)
    attributes: dict[str, Any] = {"truth": truth, "grid": outcome.grid}
    for name, state in outcome.states.items():
        prefix = "" if name == FORECAST else f"{name}_"
        if outcome.histograms is not None:
            attributes["ensemble_size"] = outcome.histograms.ranks(name).shape[-1] - 1
        for part in parts_of(state):
            official = convention == "WeatherBench2"
            whole = weatherbench2_results(state, part=part) if official else weatherbench_x_results(state, part)
            by_time = weatherbench2_results(state, by_initial_time=True, by_valid=by_valid, part=part)
            write_results(output / f"{prefix}{part}", whole, format_, attributes)
            write_results(output / f"{prefix}{part}_temporal", by_time, format_, attributes)
        if outcome.histograms is not None:
            found = histogram_results(outcome.histograms, name)
            write_results(output / f"{prefix}histograms", found, format_, attributes | {"convention": convention})
    what = "valid times" if by_valid else "initial times"
    print(f"results of {len(outcome.states[FORECAST])} {what} in {output}")
    if report is not None:
        from graphufs.report.store_page import render
        from graphufs.storage.atomic import write_text

        write_text(report, render(stores, wanted, outcome, places))
        print(f"Page: {report}")
    if engine == "weatherbench2":
        from graphufs.weatherbench.official.engine import compare_stores

        console().print(compare_stores(stores, stores.open(), wanted, outcome, output))
    return DONE
