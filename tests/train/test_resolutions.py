"""A training at one resolution goes on at twice that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.deepmind.refinement import divide_sums, growth_of_sums
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from tests.conftest import TINY
from tests.support.emulators import emulator

SETTINGS = [
    "data.training={start: 1994-01-01T00, end: 1994-03-31T18}",
    "data.validation={start: 1994-04-01T00, end: 1994-04-08T18}",
    "data.evaluation={start: 1994-04-10T00, end: 1994-04-12T18}",
    "nightly.until=null",
    "model.latent_size=32",
    "model.message_steps=2",
    "training.validate_every=5",
    "training.compute.devices=1",
]


def experiment(mesh_size: int, updates: int, *overrides: str) -> Experiment:
    rate = f"{{schedule: cosine, peak: 2.0e-3, warmup_updates: {updates // 10}}}"
    stage = f"{{name: one-step, updates: {updates}, learning_rate: {rate}}}"
    return loading.load(TINY, [*SETTINGS, f"model.mesh_size={mesh_size}", f"training.stages=[{stage}]", *overrides])


def validation_losses(wanted: Experiment, root: Path) -> list[float]:
    for step in ("prepare", "normalize", "train"):
        assert run_step(step, wanted, root)["status"] in ("completed", "unchanged")
    lines = metrics_file.read(Paths(wanted, root).metrics)
    return [line["loss"] for line in lines if line["event"] == "validation"]


def finer(world: xr.Dataset) -> xr.Dataset:
    """The same fields at 64 x 128 points, interpolated."""
    latitude, longitude = world["grid_yt"].values, world["grid_xt"].values
    fine: dict[str, Any] = {
        "grid_xt": np.arange(2 * longitude.size) * 180 / longitude.size,
        "grid_yt": np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(2 * latitude.size)[0]))[::-1],
    }
    around = xr.concat([world, world.isel(grid_xt=[0]).assign_coords(grid_xt=[360.0])], "grid_xt", data_vars="minimal")
    within = fine["grid_yt"].clip(latitude.min(), latitude.max())
    found = around.interp(grid_yt=within, grid_xt=fine["grid_xt"]).assign_coords(fine)
    found["land_static"] = found["land_static"].round()
    for name in (*found.data_vars, "grid_xt", "grid_yt"):
        found[name].attrs, found[name].encoding = world[name].attrs, {}
    return found.astype({name: world[name].dtype for name in found.data_vars})


@pytest.mark.long
def test_a_coarse_network_is_a_better_start_than_none_at_twice_the_resolution(tmp_path: Path) -> None:
    coarse = experiment(2, 600)
    validation_losses(coarse, tmp_path)
    paths = Paths(coarse, tmp_path)
    world = xr.open_zarr(next((tmp_path / "worlds").rglob("*.zarr")))
    finer(world).to_zarr(tmp_path / "fine.zarr", zarr_format=2, consolidated=True)
    fine = f"data.source.url={tmp_path / 'fine.zarr'}"
    start = f"training.init_from={max((paths.checkpoints).glob('[0-9]*'))}"
    for mesh_size in (2, 3):  # four times as many messages at a mesh node, and as many
        from_scratch = validation_losses(experiment(mesh_size, 15, fine), tmp_path)
        from_coarse = validation_losses(experiment(mesh_size, 15, fine, start), tmp_path)
        # an optimizer's first updates, which know no moments yet, disturb what was learnt
        assert all(here < 0.9 * there for here, there in zip(from_coarse[1:], from_scratch[1:], strict=True))


@pytest.mark.parametrize(("shape", "mesh_size", "growth"), [((24, 48), 1, 4.0), ((24, 48), 2, 1.0), ((12, 24), 1, 1.0)])
def test_sums_from_the_grid_are_divided_by_their_growth(shape: tuple[int, int], mesh_size: int, growth: float) -> None:
    coarse, fine = emulator(grid=(12, 24)), emulator(grid=shape, mesh_size=mesh_size)
    found = growth_of_sums(fine, coarse)
    assert found == pytest.approx(growth, rel=0.1) and (shape != (12, 24) or found == 1)
    before, after = (
        network.encoder.mesh_nodes.first.weight for network in (coarse.network, divide_sums(coarse.network, 4))
    )
    size = coarse.network.latent_size
    np.testing.assert_array_equal(after[:size], before[:size])
    np.testing.assert_array_equal(after[size:], before[size:] / 4)
