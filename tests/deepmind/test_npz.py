"""Exchange of parameters: names, round trips and files that are no checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphufs.deepmind.npz import Checkpoint, from_deepmind, read_checkpoint, to_deepmind, write_checkpoint
from graphufs.errors import UserError
from tests.support.small_model import network

PREFIX = "grid2mesh_gnn/~_networks_builder/encoder_nodes_grid_nodes"


def test_networks_of_any_depth_make_the_round_trip() -> None:
    parameters = to_deepmind(network(hidden_layers=2, message_steps=3))
    assert f"{PREFIX}_mlp/~/linear_2:w" in parameters
    back = to_deepmind(from_deepmind(parameters))
    assert list(back) == list(parameters)
    for key, value in parameters.items():
        np.testing.assert_array_equal(back[key], value)


def test_a_missing_and_a_strange_parameter_are_named() -> None:
    parameters = to_deepmind(network())
    with pytest.raises(UserError, match="moon"):
        from_deepmind({**parameters, "moon": np.zeros(1)})
    del parameters[f"{PREFIX}_layer_norm:scale"]
    with pytest.raises(UserError, match=f"{PREFIX}_layer_norm:scale is missing"):
        from_deepmind(parameters)
    with pytest.raises(UserError, match="no message step"):
        from_deepmind({})


def test_a_checkpoint_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    checkpoint = Checkpoint(
        to_deepmind(network()),
        {"mesh_size": 2, "resolution": 1.0, "mesh2grid_edge_normalization_factor": None},
        {"input_variables": ("tmp", "pressfc"), "input_duration": "12h"},
        "text",
        "free",
    )
    write_checkpoint(tmp_path / "a.npz", checkpoint)
    back = read_checkpoint(tmp_path / "a.npz")
    assert back.model_config == {"mesh_size": 2, "resolution": 1.0}  # None is left out, as DeepMind does
    assert (back.task_config, back.description, back.license) == (checkpoint.task_config, "text", "free")
    for key, value in checkpoint.parameters.items():
        np.testing.assert_array_equal(back.parameters[key], value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a readable npz"):
        read_checkpoint(tmp_path / "missing.npz")
    write_checkpoint(tmp_path / "torn.npz", Checkpoint(to_deepmind(network())))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "torn.npz").read_bytes()[:5000])
    with pytest.raises(UserError, match="not a readable npz"):
        read_checkpoint(tmp_path / "torn.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="not a GraphCast checkpoint"):
        read_checkpoint(tmp_path / "other.npz")
