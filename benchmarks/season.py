"""Real weather: train and score experiments/era5_season.yaml and compare its scores with those of persistence.

    python benchmarks/season.py --source STORE --seeds 0 1 2
    python benchmarks/season.py --source STORE --set 'training.augmentation={mirror: true}'

Each seed is another start of the network and another order of the samples. The bar is pressure at
sea level at 24 hours at least 8 % below persistence, and at 6 hours below it. Rows are added to a file in
benchmarks/results, or take the place of earlier ones with the same settings. What was made already is not made again:
its row then has no processor time. The exit code is 0 where every seed passes and 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.cli import app as command
from graphufs.cli.ending import finish
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.steps import CHAINS
from graphufs.storage.paths import Paths
from graphufs.storage.provenance import provenance

HERE = Path(__file__).parent
EXPERIMENT = HERE.parent / "experiments" / "era5_season.yaml"
PRESSURE, LEADS, BAR = "mean_sea_level_pressure", (6, 24), 0.92


def processor_time() -> float:
    """Seconds of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def row(experiment: Experiment, root: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The RMSE of each variable in its unit, of the emulator and of persistence, by lead in hours."""
    scores = xr.open_zarr(Paths(experiment, root).scores).sel(metric="rmse", region="global").load()
    found: dict[str, Any] = {"seed": experiment.training.seed, "set": list(overrides)}
    for name in experiment.data.targets:
        by_forecast = {}
        for forecast in ("emulator", "persistence"):
            values = scores[name].sel(forecast=forecast).squeeze()
            hours = values.lead_time.values // np.timedelta64(1, "h")
            by_forecast[forecast] = {str(lead): float(values.values[list(hours).index(lead)]) for lead in LEADS}
        found[name] = by_forecast
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="two months of ERA5 in WeatherBench2's layout")
    parser.add_argument("--root", type=Path, default=Path("graphufs-root"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    options = parser.parse_args(arguments)
    today = datetime.now(UTC).date().isoformat()
    file = HERE / "results" / f"season-{today}.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"date": today, "rows": []}
    passed = []
    for seed in options.seeds:
        overrides = [f"data.source.url={options.source}", f"training.seed={seed}", *options.set]
        experiment, root = loading.load(EXPERIMENT, overrides), options.root.absolute()
        there, began = Paths(experiment, root).scores.exists(), processor_time()
        if code := command.run_steps(CHAINS["run"], experiment, root):
            return code
        made: dict[str, Any] = row(experiment, root, options.set) | {"commit": provenance()["commit"]}
        if not there:
            made["processor_seconds"] = round(processor_time() - began)
        kept = [one for one in content["rows"] if (one["seed"], one["set"]) != (seed, options.set)]
        content["rows"] = [*kept, made]
        file.write_text(json.dumps(content, indent=2) + "\n")
        ratio = {lead: made[PRESSURE]["emulator"][lead] / made[PRESSURE]["persistence"][lead] for lead in ("6", "24")}
        passed.append(ratio["24"] <= BAR and ratio["6"] < 1)
        print(json.dumps(made, indent=2))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    finish(main)
