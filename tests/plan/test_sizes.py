"""Sizes and counts: those of what tiny really did and wrote."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from graphufs.config import loading
from graphufs.data.dataset import PreparedData
from graphufs.emulator.domain import Domain
from graphufs.plan.domains import domain_of, surface_by_default
from graphufs.plan.flops import count_flops
from graphufs.plan.programs import TrainingPrograms
from graphufs.plan.sizes import batch_bytes, disk_bytes, work_of
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from tests.conftest import TINY


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_predicted_of_the_disk_is_what_tiny_wrote(tiny, finished_root):
    paths = Paths(tiny, finished_root)
    data = PreparedData.open(paths.data)
    domain = Domain.of(data)
    work = work_of(tiny, data)
    programs = TrainingPrograms(tiny, domain)
    disk = disk_bytes(tiny, domain, work, *programs.state)
    assert disk["data"] == pytest.approx(bytes_below(paths.data / "segments"), rel=0.02)
    kept = sorted(paths.checkpoints.glob("[0-9]*"))
    assert work.checkpoints == len(kept)
    arrays = sum((kept[-1] / name).stat().st_size for name in ("emulator.npz", "training.npz"))
    assert disk["checkpoint"] == pytest.approx(arrays, rel=0.1)
    stored = bytes_below(paths.forecasts)
    assert 0.5 * disk["forecasts"] < stored < 1.1 * disk["forecasts"]  # compressed, with coordinates


def test_updates_and_validations_are_those_that_were_made(tiny, finished_root):
    paths = Paths(tiny, finished_root)
    work = work_of(tiny, PreparedData.open(paths.data))
    lines = [line for line in metrics_file.read(paths.metrics) if line["event"] == "validation"]
    assert work.updates == {"one-step": 12, "rollout": 4} and work.total == 16
    assert work.validations == len(lines) and {line["samples"] for line in lines} == {work.validation_samples}


def test_what_is_frozen_has_no_moments_and_no_gradients_of_its_own(tiny, finished_root):
    frozen = tiny.model_copy(update={"training": tiny.training.model_copy(update={"freeze": ("processor.*",)})})
    domain = Domain.of(PreparedData.open(Paths(tiny, finished_root).data))
    whole, less = (TrainingPrograms(one, domain) for one in (tiny, frozen))
    processor = sum(leaf.size for leaf in jax.tree.leaves(whole.objective.emulator.network.processor))
    assert whole.state[0] - less.state[0] == 2 * processor
    flop, smaller = (count_flops(*_flat(one.update(1, tiny.training.optimizer, 1, 1))) for one in (whole, less))
    assert smaller < flop


def _flat(jitted):
    return jitted[0], *jitted[1]


def test_without_data_the_counts_are_those_of_whole_periods(tiny, finished_root):
    assert work_of(tiny, None) == work_of(tiny, PreparedData.open(Paths(tiny, finished_root).data))


def test_a_stage_of_epochs_has_the_updates_of_its_samples(tiny):
    stage = tiny.training.stages[0].model_copy(update={"updates": None, "epochs": 3})
    changed = tiny.model_copy(update={"training": tiny.training.model_copy(update={"stages": (stage,)})})
    stamps = tiny.data.training.count(tiny.data.time_step)
    assert work_of(changed, None).updates == {"one-step": 3 * ((stamps - 2) // tiny.training.batch_size)}


def test_the_source_and_a_named_grid_give_the_shapes_of_the_data(tiny, finished_root, tmp_path):
    known, _, data = domain_of(tiny, finished_root, None)
    assert data is not None
    for found, words, none in (domain_of(tiny, tmp_path, None), domain_of(tiny, tmp_path, "64x32")):
        assert none is None and words
        assert found.slices == known.slices and set(found.static) == set(known.static)
        assert {name: array.shape for name, array in found.arrays().items()} == {
            name: array.shape for name, array in known.arrays().items()
        }
    assert batch_bytes(tiny, known, 2, 1) == 2 * (tiny.data.input_frames + 2) * 4 * len(known.channels) * 32 * 64


def test_replays_own_variables_have_levels_on_a_named_grid_too(tmp_path):
    experiment = loading.load(TINY.with_name("p1.yaml"))
    found, _, _ = domain_of(experiment, tmp_path, "64x32")
    assert len(found.levels("dzdt")) == len(found.levels("delz")) == 13
    whole, packed = (
        disk_bytes(one, found, work_of(one, None), 1, 1)["data"]
        for one in (experiment, loading.load(TINY.with_name("p1.yaml"), ["data.storage=int16"]))
    )
    assert packed < 0.51 * whole


@pytest.mark.parametrize(
    ("name", "grid", "channels"), [("graphcast_small", "360x181", 83), ("graphcast_operational", "64x33", 83)]
)
def test_variables_of_analyses_are_known_by_weatherbench2s_names_too(name, grid, channels, tmp_path):
    experiment = loading.load(TINY.with_name(f"{name}.yaml"))
    found, _, _ = domain_of(experiment, tmp_path, grid)
    assert len(found.channels) == channels and set(found.static) == {"geopotential_at_surface", "land_sea_mask"}
    assert len(found.levels("vertical_velocity")) == 13 and not found.levels("total_precipitation_6hr")
    assert found.on_pressure_levels and surface_by_default(experiment) == []
