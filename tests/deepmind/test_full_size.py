"""The released models at their sizes, with random weights: names and shapes are those of the real package's own file.

`tests/golden/graphcast13/g1/checkpoint.npz` was written by DeepMind's package with latent size 16 and two steps. Here
every tensor of it has the published sizes, the steps are sixteen, and the values are drawn as Haiku draws them.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

from graphufs.cli.exchange.released import FromAnalysis
from graphufs.config import loading
from graphufs.deepmind.npz import Checkpoint, read_checkpoint, write_checkpoint
from graphufs.deepmind.released import STATISTICS_FILES, import_checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.model.arrangement import CPU

CASE = Path(__file__).parents[1] / "golden" / "graphcast13" / "g1"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RAIN = "total_precipitation_6hr"
LATENT, STEPS = 512, 16
LEVELS_37 = (
    *(1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500, 550, 600, 650),
    *(700, 750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000),
)
MODELS: dict[str, Any] = {
    "graphcast_small": {"resolution": 1.0, "mesh": 5, "channels": (183, 83), "reads_rain": True},
    "graphcast_operational": {"resolution": 0.25, "mesh": 6, "channels": (181, 83), "reads_rain": False},
    "graphcast": {"resolution": 0.25, "mesh": 6, "channels": (471, 227), "reads_rain": True, "levels": LEVELS_37},
}
"""As published with the weights: degrees, refinement of the mesh, channels read and predicted."""


def released_file(name: str, folder: Path) -> Path:
    """A file of a model's form, with the statistics beside it."""
    model, small = MODELS[name], read_checkpoint(CASE / "checkpoint.npz")
    inputs, outputs = model["channels"]
    sizes = {16: LATENT, 32: 2 * LATENT, 48: 3 * LATENT, 83: outputs, 184: inputs + 3, 4: 4}
    random = np.random.default_rng(0)
    parameters = {}
    for key, values in small.parameters.items():
        in_steps = re.fullmatch(r"(mesh_gnn/.*/processor_(?:edges|nodes)_)\d+(_.*)", key)
        shape = tuple(sizes[size] for size in values.shape)
        for one in [f"{in_steps[1]}{k}{in_steps[2]}" for k in range(STEPS)] if in_steps else [key]:
            if key.endswith(":w"):
                parameters[one] = random.normal(scale=shape[0] ** -0.5, size=shape).astype(np.float32)
            else:
                parameters[one] = np.full(shape, key.endswith(":scale"), np.float32)
    task = dict(small.task_config)
    if model["reads_rain"]:
        task["input_variables"] = (*task["input_variables"], RAIN)
    if "levels" in model:
        task["pressure_levels"] = model["levels"]
    sized = {"resolution": model["resolution"], "mesh_size": model["mesh"]}
    config = {**small.model_config, **sized, "latent_size": LATENT, "gnn_msg_steps": STEPS}
    write_checkpoint(folder / f"{name}.npz", Checkpoint(parameters, config, task, "random weights", "none"))
    for statistics in STATISTICS_FILES.values():
        with xr.open_dataset(CASE / statistics) as official:
            own = official.sel(level=list(task["pressure_levels"]), method="nearest")
            own.assign_coords(level=list(task["pressure_levels"])).to_netcdf(folder / statistics)
    return folder / f"{name}.npz"


def shapes(emulator: ReplayEmulator) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, emulator.network)


@pytest.mark.long  # three files of 150 MB, and grids of a quarter of a degree
@pytest.mark.parametrize("name", MODELS)
def test_a_file_of_full_size_is_imported_and_is_the_shipped_experiments_model(name: str, tmp_path: Path) -> None:
    file = released_file(name, tmp_path)
    import_checkpoint(file, tmp_path, tmp_path / "checkpoint")
    found = ReplayEmulator.from_checkpoint(tmp_path / "checkpoint")
    assert (found.channels.input_size, found.channels.output_size) == MODELS[name]["channels"]
    count = sum(leaf.size for leaf in jax.tree.leaves(found.network))
    assert count == pytest.approx(36.5e6, rel=0.02)
    assert count == sum(values.size for values in read_checkpoint(file).parameters.values())
    if (shipped := EXPERIMENTS / f"{name}.yaml").exists():
        outline = ReplayEmulator.outline(loading.load(shipped), found.domain, CPU)
        assert shapes(outline) == shapes(found)


@pytest.mark.long  # a minute, and some GiB
def test_graphcast_small_makes_a_step_at_a_degree(tmp_path: Path) -> None:
    file = released_file("graphcast_small", tmp_path)
    import_checkpoint(file, tmp_path, tmp_path / "checkpoint")
    with zipfile.ZipFile(CASE / "era5.zarr.zip") as packed:
        packed.extractall(tmp_path / "coarse.zarr")
    coarse = xr.open_zarr(tmp_path / "coarse.zarr", consolidated=False).load()
    latitude, longitude = np.arange(-90.0, 91.0), np.arange(0.0, 360.0)
    fine = coarse.sel(latitude=latitude, longitude=longitude, method="nearest")
    fine = fine.assign_coords(latitude=latitude, longitude=longitude).drop_encoding()
    if RAIN not in fine:
        fine[RAIN] = xr.zeros_like(fine["2m_temperature"])
    fine.to_zarr(tmp_path / "fine.zarr", zarr_format=2)
    FromAnalysis(
        analysis=str(tmp_path / "fine.zarr"),
        initial_time=("2020-06-01T06",),
        lead_time="6h",
        output=tmp_path / "forecast.zarr",
    ).run(tmp_path / "checkpoint", as_json=True)
    forecast = xr.open_zarr(tmp_path / "forecast.zarr")
    assert dict(forecast.sizes) | {"latitude": 181, "longitude": 360, "level": 13} == dict(forecast.sizes)
    start = fine.sel(time="2020-06-01T06")
    for name in ("temperature", "geopotential", "mean_sea_level_pressure", RAIN):
        values = forecast[name].squeeze()
        assert np.isfinite(values.values).all()
        assert float(abs(values - start[name]).max()) > 0
