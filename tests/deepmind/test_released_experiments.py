"""The shipped experiments of the released models say what the files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.deepmind.names import ATMOSPHERIC, STATIC
from graphufs.deepmind.released import released_emulator
from graphufs.model.channels import ChannelMap

GOLDEN = Path(__file__).parents[1] / "golden" / "graphcast13" / "g1"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RAIN = "total_precipitation_6hr"


@pytest.fixture(scope="module")
def imported() -> Experiment:
    """That of a small file in the form of GraphCast_operational's: precipitation is predicted, but not read."""
    return released_emulator(GOLDEN / "checkpoint.npz", GOLDEN).experiment


@pytest.mark.parametrize("name", ["graphcast_small", "graphcast_operational"])
def test_data_and_graph_are_those_of_a_file(imported: Experiment, name: str) -> None:
    shipped = loading.load(EXPERIMENTS / f"{name}.yaml")
    reads_rain = {RAIN} if name == "graphcast_small" else set()
    assert set(shipped.data.inputs) == set(imported.data.inputs) | reads_rain
    for key in ("targets", "forcings", "levels"):
        assert set(getattr(shipped.data, key)) == set(getattr(imported.data, key))
    for key in ("level_match", "time_step", "input_frames", "tisr_period"):
        assert getattr(shipped.data, key) == getattr(imported.data, key)
    sizes = {"mesh_size", "latent_size", "message_steps"}
    ours, theirs = (one.model.model_dump(exclude=sizes) for one in (shipped, imported))
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "sizes", "channels"),
    [("graphcast_small", (5, 512, 16), (183, 83)), ("graphcast_operational", (6, 512, 16), (181, 83))],
)
def test_sizes_are_the_published_ones(name: str, sizes: Any, channels: Any) -> None:
    shipped = loading.load(EXPERIMENTS / f"{name}.yaml")
    data, model = shipped.data, shipped.model
    assert (model.mesh_size, model.latent_size, model.message_steps) == sizes
    levels = {variable: len(data.levels) for variable in {*data.inputs, *data.targets} & ATMOSPHERIC}
    found = ChannelMap.build(
        data.inputs, data.targets, data.forcings, levels=levels, input_frames=data.input_frames, static=STATIC
    )
    assert (found.input_size, found.output_size) == channels
