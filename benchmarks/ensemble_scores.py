"""What scoring an ensemble costs next to only reading the same stores: CPU seconds and memory, each a process.

Stores of made-up numbers in WeatherBench2's layout on 64x32: 8 members, 5 variables on 3 levels, 40 leads and 120
initial times, with observations, and a climatology with three quantiles. Scored are all probabilistic metrics, with
histograms and the scores of the ensemble mean, in three regions; `all regions` is told besides, without a bar. Times
count the process from its start, imports included. One short run before is not counted: it compiles the inner loops.

    python benchmarks/ensemble_scores.py --repeats 3 --json ensemble_scores.json

With `--initial-times 12` the start of the process, about 2 s, weighs more than in the case the bar is set for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from evaluation import LEADS, LEVELS, REGIONS, VARIABLES, measured
from rich.console import Console
from rich.table import Table

GRID = "64x32"
MEMBERS = 8
INITIAL_TIMES = 120
QUANTILES = (0.1, 0.5, 0.9)
BAR = 2.5
"""How many times the CPU seconds of reading scoring may take."""
MEMORY = 600
"""MB that scoring may take."""
MODES = {"read": None, "score": BAR, "all regions": None}


def make(folder: Path, initial_times: int) -> None:
    """Write forecast, truth and climatology; the forecast a piece at a time, as it is larger than memory should be."""
    import dask.array as da
    import numpy as np
    import xarray as xr
    import zarr

    from graphufs.grid.regridding import named_grid
    from graphufs.storage.zarr_io import write_zarr
    from graphufs.weatherbench.climatology.store import days_per_block

    rng = np.random.default_rng(0)
    grid = named_grid(GRID)
    shape = (len(LEVELS), *grid.shape)
    horizontal = {"level": list(LEVELS), "latitude": grid.latitude, "longitude": grid.longitude}
    axes = ("level", "latitude", "longitude")
    step = np.timedelta64(6, "h").astype("timedelta64[ns]")
    times = np.datetime64("2020-01-01", "ns") + 2 * step * np.arange(initial_times)
    leads = step * np.arange(1, LEADS + 1)
    stamps = np.arange(times[0], times[-1] + leads[-1] + step, step)
    base = rng.normal(size=(64, *shape)).astype(np.float32) * 10 + 280

    def fields(*leading: int) -> np.ndarray:
        return base[rng.integers(64, size=leading)] + rng.normal(size=(*leading, 1, 1, 1)).astype(np.float32)

    land = {"land_sea_mask": (axes[1:], rng.uniform(size=grid.shape).astype(np.float32))}
    truth = {name: (("time", *axes), fields(len(stamps))) for name in VARIABLES}
    observed = xr.Dataset({**truth, **land}, {"time": stamps, **horizontal})
    write_zarr(folder / "truth", {None: observed}, {name: {"time": 1} for name in VARIABLES})
    days = {"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 121)}
    climate: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    chunks: dict[str, dict[str, int]] = {}
    for name in VARIABLES:
        mean = fields(4, 120)
        climate[name] = (("hour", "dayofyear", *axes), mean)
        limits = np.stack([mean + np.float32(shift) for shift in (-13, 0, 13)])
        climate[f"{name}_quantile"] = (("quantile", "hour", "dayofyear", *axes), limits)
        block = {"hour": 1, "dayofyear": days_per_block(grid), "level": 1}
        chunks |= {name: block, f"{name}_quantile": {"quantile": 1, **block}}
    climatology = xr.Dataset(climate, {**days, "quantile": list(QUANTILES), **horizontal})
    write_zarr(folder / "climatology", {None: climatology}, chunks)

    dims = ("time", "number", "prediction_timedelta", *axes)
    sizes = (len(times), MEMBERS, LEADS, *shape)
    nothing = da.zeros(sizes, np.float32, chunks=(1, *sizes[1:]))
    coordinates = {"time": times, "number": np.arange(MEMBERS), "prediction_timedelta": leads, **horizontal}
    template = xr.Dataset({name: (dims, nothing) for name in VARIABLES}, coordinates)
    template.to_zarr(folder / "forecast", compute=False, zarr_format=2, consolidated=True)
    group = zarr.open_group(folder / "forecast")
    for time in range(len(times)):
        for name in VARIABLES:
            group[name][time] = fields(MEMBERS, LEADS)  # type: ignore[index]


def read(folder: Path) -> None:
    """Read every chunk once."""
    import zarr

    for name in ("forecast", "truth", "climatology"):
        group = zarr.open_group(folder / name, mode="r")
        for variable in (key for key in group.array_keys() if key.split("_quantile")[0] in VARIABLES):
            array = group[variable]
            for start in range(0, array.shape[0], array.chunks[0]):  # type: ignore[union-attr]
                array[start : start + array.chunks[0]]  # type: ignore[index, union-attr]


def score(folder: Path, everywhere: bool, most: int | None) -> None:
    """Score the forecasts, or the first few of them."""
    from graphufs.weatherbench.score_request import ScoreRequest, StorePaths
    from graphufs.weatherbench.score_stores import prepare_scoring

    stores = StorePaths(str(folder / "forecast"), str(folder / "truth"), str(folder / "climatology"))
    ready = prepare_scoring(stores.open(), ScoreRequest(regions=None if everywhere else REGIONS))
    outcome = ready.outcome(ready.score(ready.usable[:most]))
    for state in outcome.states.values():
        state.finalize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--initial-times", type=int, default=INITIAL_TIMES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", choices=[*MODES, "compile"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        if options.run == "read":
            read(options.folder)
        else:
            score(options.folder, options.run == "all regions", 1 if options.run == "compile" else None)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(usage.ru_utime + usage.ru_stime, int(peak.split()[1]) / 1024)
        return

    table = Table("mode", "CPU s", "over reading", "at most", "MB", "at most ")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ensemble-scores-"))
    try:
        if not (folder / "forecast").exists():
            make(folder, options.initial_times)
        measured(folder, "compile", __file__)
        runs = [{mode: measured(folder, mode, __file__) for mode in MODES} for _ in range(options.repeats)]
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    reading = min(run["read"][0] for run in runs)
    found: list[dict[str, object]] = []
    good = True
    for mode, bar in MODES.items():
        seconds, memory = min(run[mode][0] for run in runs), max(run[mode][1] for run in runs)
        limit = None if bar is None else MEMORY
        good &= (bar is None or seconds <= bar * reading) and (limit is None or memory <= limit)
        table.add_row(
            mode, f"{seconds:.2f}", f"{seconds / reading:.2f}", f"{bar or ''}", f"{memory:.0f}", f"{limit or ''}"
        )
        found.append({"mode": mode, "cpu_s": seconds, "ratio": seconds / reading, "peak_mb": memory})
    console = Console()
    console.print(table)
    console.print(f"{options.initial_times} initial times; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
