"""What scoring costs next to only reading the same stores: CPU seconds and memory, each in a process of its own.

Stores of made-up numbers in WeatherBench2's layout: 5 variables on 3 levels, 40 leads, observations and a climatology;
120 initial times at 64x32 and 6 at 240x121. Scored are MSE, MAE, bias and ACC in three regions, and all metrics in all
regions. Times count the process from its start, imports included. One run before is not counted: the first one after
installing compiles the inner loop, which is kept.

    python benchmarks/evaluation.py --repeats 3 --json evaluation.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VARIABLES = ("geopotential", "specific_humidity", "temperature", "u_component_of_wind", "v_component_of_wind")
LEVELS = (500, 700, 850)
LEADS = 40
STATISTICS = (
    "error",
    "absolute_error",
    "squared_error",
    "anomaly_product",
    "squared_forecast_anomaly",
    "squared_truth_anomaly",
)
"""What MSE, MAE, bias and ACC are made of."""
REGIONS = ("global", "tropics", "extra-tropics")
BAR, BAR_ALL = 2.7, 5.4
"""How many times the CPU seconds of reading scoring may take."""


@dataclass(frozen=True)
class Case:
    """A size."""

    grid: str
    initial_times: int
    memory: int
    """MB that scoring may take."""


CASES = (Case("64x32", 120, 300), Case("240x121", 6, 800))
MODES = {"read": None, "score": BAR, "score all": BAR_ALL}


def make(folder: Path, case: Case) -> None:
    """Write forecast, truth and climatology of one case."""
    import numpy as np
    import xarray as xr

    from graphufs.grid.regridding import named_grid
    from graphufs.storage.zarr_io import write_zarr
    from graphufs.weatherbench.climatology.store import days_per_block

    rng = np.random.default_rng(0)
    grid = named_grid(case.grid)
    shape = (len(LEVELS), *grid.shape)
    horizontal = {"level": list(LEVELS), "latitude": grid.latitude, "longitude": grid.longitude}
    axes = ("level", "latitude", "longitude")
    step = np.timedelta64(6, "h").astype("timedelta64[ns]")
    times = np.datetime64("2020-01-01", "ns") + 2 * step * np.arange(case.initial_times)
    leads = step * np.arange(1, LEADS + 1)
    stamps = np.arange(times[0], times[-1] + leads[-1] + step, step)
    base = rng.normal(size=(64, *shape)).astype(np.float32) * 10 + 280

    def fields(*leading: int) -> np.ndarray:
        return base[rng.integers(64, size=leading)] + rng.normal(size=(*leading, 1, 1, 1)).astype(np.float32)

    def store(
        name: str, coordinates: Mapping[str, object], chunks: dict[str, int], extra: Mapping[str, object]
    ) -> None:
        sizes = [len(values) for values in coordinates.values()]  # type: ignore[arg-type]
        variables = {variable: ((*coordinates, *axes), fields(*sizes)) for variable in VARIABLES}
        dataset = xr.Dataset({**variables, **extra}, {**coordinates, **horizontal})
        write_zarr(folder / name, {None: dataset}, dict.fromkeys(VARIABLES, chunks))

    land = {"land_sea_mask": (axes[1:], rng.uniform(size=grid.shape).astype(np.float32))}
    store("forecast", {"time": times, "prediction_timedelta": leads}, {"time": 1}, {})
    store("truth", {"time": stamps}, {"time": 1}, land)
    days = {"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 121)}
    store("climatology", days, {"hour": 1, "dayofyear": days_per_block(grid), "level": 1}, {})


def read(folder: Path) -> None:
    """Read every chunk once."""
    import zarr

    for name in ("forecast", "truth", "climatology"):
        group = zarr.open_group(folder / name, mode="r")
        for variable in VARIABLES:
            array = group[variable]
            for start in range(0, array.shape[0], array.chunks[0]):  # type: ignore[union-attr]
                array[start : start + array.chunks[0]]  # type: ignore[index, union-attr]


def score(folder: Path, everything: bool) -> None:
    """Score the forecasts."""
    from graphufs.storage.zarr_io import open_zarr
    from graphufs.vocabulary.regions import all_regions
    from graphufs.weatherbench.climatology.store import Climatology
    from graphufs.weatherbench.inputs.forecasts import Forecasts
    from graphufs.weatherbench.inputs.truth import DatasetTruth, land_sea_mask
    from graphufs.weatherbench.metrics.metrics import DEFAULT_STATISTICS
    from graphufs.weatherbench.scoring.score import FORECAST
    from graphufs.weatherbench.scoring.score import score as scored

    forecasts, observed = Forecasts.open(folder / "forecast"), open_zarr(folder / "truth")
    states = scored(
        forecasts,
        DatasetTruth(observed, forecasts.channels, forecasts.grid),
        Climatology(open_zarr(folder / "climatology"), forecasts.channels, forecasts.grid),
        forecasts.initial_times,
        {},
        statistics=DEFAULT_STATISTICS if everything else STATISTICS,
        regions=all_regions() if everything else REGIONS,
        land_sea_mask=land_sea_mask(observed, forecasts.grid),
        vectors=everything,
    )
    states[FORECAST].finalize()


def measured(folder: Path, mode: str, script: str = __file__) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of a process of its own: `script` with --run and --folder."""
    environment = os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, script, "--run", mode, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--cases", nargs="+", default=[case.grid for case in CASES])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        read(options.folder) if options.run == "read" else score(options.folder, options.run == "score all")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        # ru_maxrss would be the parent's, whose pages a child shares before it becomes another program
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(usage.ru_utime + usage.ru_stime, int(peak.split()[1]) / 1024)
        return

    from rich.console import Console  # not in the processes that are measured
    from rich.table import Table

    table = Table("case", "mode", "CPU s", "over reading", "at most", "MB", "at most ")
    found: list[dict[str, object]] = []
    good = True
    for case in [case for case in CASES if case.grid in options.cases]:
        folder = Path(tempfile.mkdtemp(prefix="evaluation-"))
        try:
            make(folder, case)
            measured(folder, "score")
            runs = [{mode: measured(folder, mode) for mode in MODES} for _ in range(options.repeats)]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        reading = min(run["read"][0] for run in runs)
        for mode, bar in MODES.items():
            seconds, memory = min(run[mode][0] for run in runs), max(run[mode][1] for run in runs)
            limit = case.memory if mode == "score" else None
            good &= (bar is None or seconds <= bar * reading) and (limit is None or memory <= limit)
            cells = f"{seconds:.2f}", f"{seconds / reading:.2f}", f"{bar or ''}", f"{memory:.0f}", f"{limit or ''}"
            table.add_row(f"{case.grid}, {case.initial_times} initial times", mode, *cells)
            found.append(
                {"grid": case.grid, "mode": mode, "cpu_s": seconds, "ratio": seconds / reading, "peak_mb": memory}
            )
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
