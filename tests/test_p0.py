"""The published prototype at its full size: 192 x 384 points, latent 256, batches of 16, on a look-alike store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from tests.support.lookalike import build_atmosphere

P0 = Path(__file__).parents[1] / "experiments" / "p0.yaml"
MEMORY_GIB = 16

PROGRAM = """
import json, resource, sys
from pathlib import Path
from graphufs.cli.app import run_steps
from graphufs.config import loading
experiment = loading.load(sys.argv[1], json.loads(sys.argv[3]))
code = run_steps(["prepare", "normalize", "train", "forecast"], experiment, Path(sys.argv[2]))
print(json.dumps({"code": code, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_p0_takes_one_training_step_and_one_forecast_step_within_16_gib(tmp_path):
    store = tmp_path / "fv3.zarr"
    variables = ("pressfc", "ugrd10m", "vgrd10m", "tmp", "dswrf_avetoa", "land_static", "hgtsfc_static")
    build_atmosphere(store, count=26, step_hours=6, latitudes=192, longitudes=384, variables=variables)
    # Only the source and the periods differ from the published configuration; one update and one lead are asked for.
    overrides = [
        f"data.source.url={store}",
        "data.source.storage_options={}",
        "data.training={start: 1993-12-31T18, end: 1994-01-05T00}",
        "data.validation={start: 1994-01-05T06, end: 1994-01-05T18}",
        "data.evaluation={start: 1994-01-06T00, end: 1994-01-06T18}",
        "normalization.period={start: 1993-12-31T18, end: 1994-01-06T18}",
        "training.stages.0.epochs=null",
        "training.stages.0.updates=1",
        "forecast.lead_time=6h",
        "forecast.every=5d",
    ]
    arguments = [sys.executable, "-c", PROGRAM, str(P0), str(tmp_path / "root"), json.dumps(overrides)]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout.splitlines()[-1])
    assert outcome["code"] == 0 and outcome["gib"] < MEMORY_GIB, (outcome, result.stderr)

    experiment = loading.load(P0, overrides)
    paths = Paths(experiment, tmp_path / "root")
    update = next(line for line in metrics_file.read(paths.metrics) if line["event"] == "update")
    assert experiment.training.batch_size == 16 and np.isfinite(update["loss"])
    with xr.open_zarr(paths.forecasts, chunks=None) as forecast:
        assert forecast.temperature.shape == (1, 1, 3, 192, 384)
        assert np.isfinite(forecast.temperature.values).all()
        assert forecast.native_level.values == pytest.approx([97.82327, 505.65207, 998.7807])
