"""Names and order of channels on both sides, the permutation between them, and whole emulators as files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.deepmind.export import export, labels_of, official_checkpoint
from graphufs.deepmind.names import (
    ATMOSPHERIC,
    NAMES,
    STAND_INS,
    Label,
    Labels,
    deepmind_names,
    order,
    permute,
    replay_names,
)
from graphufs.deepmind.npz import Checkpoint, from_deepmind, read_checkpoint, to_deepmind
from graphufs.errors import UserError
from graphufs.graph.build import assemble_graph
from graphufs.graph.icosphere import icosphere
from graphufs.model.arrays import GraphArrays
from graphufs.model.compile import jit
from graphufs.vocabulary.variables import BY_WEATHERBENCH
from tests.support.emulators import PROGRESS, emulator
from tests.support.rounding import assert_equal_to_rounding, of_network

GOLDEN = Path(__file__).parents[1] / "golden" / "graphcast"
APPLY = jit(lambda network, x, graph: network(x, graph))


def assert_same_parameters(one: Any, other: Any) -> None:
    one, other = to_deepmind(one), to_deepmind(other)
    assert set(one) == set(other)
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def official_names(labels: Labels) -> Labels:
    return labels.renamed(deepmind_names(labels.variables))


def without(checkpoint: Checkpoint, *fields: str) -> Checkpoint:
    task = {key: value for key, value in checkpoint.task_config.items() if key not in fields}
    return Checkpoint(checkpoint.parameters, checkpoint.model_config, task)


def test_channels_are_labelled_by_variable_frame_and_wanted_level() -> None:
    labels = labels_of(
        emulator(targets=["tmp"], inputs=["land_static"], forcings=["day_progress_sin"], levels=[500, 100])
    )
    assert labels.inputs == (
        Label("day_progress_sin", -1),
        Label("day_progress_sin", 0),
        Label("land_static"),
        Label("tmp", -1, 100.0),
        Label("tmp", -1, 500.0),
        Label("tmp", 0, 100.0),
        Label("tmp", 0, 500.0),
    )
    assert labels.forcings == (Label("day_progress_sin", 1),)
    assert labels.outputs == (Label("tmp", 1, 100.0), Label("tmp", 1, 500.0))
    assert [str(label) for label in labels.inputs[1:4]] == ["day_progress_sin at t+0", "land_static", "tmp 100 at t-1"]


@pytest.mark.parametrize("case", ["c1", "c2"])
def test_an_official_file_is_labelled_as_the_reference_stacked_it(case: str) -> None:
    meta = json.loads((GOLDEN / f"{case}_meta.json").read_text())
    labels = Labels.of_checkpoint(read_checkpoint(GOLDEN / f"{case}_checkpoint_official.npz"))

    def recorded(kind: str, first: int) -> list[Label]:
        return [Label(name, None if t is None else t + first, level) for name, t, level in meta[f"{kind}_channels"]]

    assert list(labels.inputs) == recorded("input", -1)
    assert list(labels.forcings) == recorded("forcing", 1)
    assert list(labels.outputs) == recorded("output", 1)
    assert labels.sorted() == labels


def test_the_two_orders_differ_and_lead_back_to_each_other() -> None:
    ours = labels_of(emulator())
    theirs = official_names(ours).sorted()
    assert [label.variable for label in theirs.outputs][:2] == ["10m_u_component_of_wind", "10m_v_component_of_wind"]
    assert [label.variable for label in ours.outputs][-2:] == ["ugrd10m", "vgrd10m"]
    assert theirs.renamed(replay_names(theirs.variables)).sorted() == ours


@pytest.mark.parametrize("hidden_layers", [1, 2])
def test_a_permuted_network_does_the_same_with_permuted_channels(hidden_layers: int) -> None:
    small = emulator(hidden_layers=hidden_layers)
    here = official_names(labels_of(small))
    there = here.sorted()
    official = permute(small.network, here, there)
    assert_same_parameters(permute(official, there, here), small.network)
    assert not np.array_equal(official.encoder.embed_grid.first.weight, small.network.encoder.embed_grid.first.weight)

    graph = small.stepper.graph
    x = np.random.default_rng(0).normal(size=(2, 72, len(here.rows))).astype(np.float32)
    y = np.asarray(APPLY(small.network, x, graph))
    x_there = x[..., order(here.rows, there.rows)]
    y_there = np.asarray(APPLY(official, x_there, graph))
    bound = of_network(small.experiment.model.latent_size, small.experiment.model.message_steps, len(here.rows))
    assert_equal_to_rounding(y_there[..., order(there.outputs, here.outputs)], y, bound)
    # and back: channels of the official order through the network permuted back
    np.testing.assert_array_equal(x_there[..., order(there.rows, here.rows)], x)


def test_an_official_network_in_replays_order_makes_the_references_recorded_outputs() -> None:
    with np.load(GOLDEN / "c1_step.npz") as step, np.load(GOLDEN / "c1_data.npz") as data:
        x, y = (step[f"cap/{name}_stacked"].swapaxes(0, 1) for name in "xy")
        latitude, longitude = data["lat"], data["lon"]
    with np.load(GOLDEN / "c1_graph.npz") as file:
        edges = {
            name: (file[f"{name}/senders"].astype(np.int32), file[f"{name}/receivers"].astype(np.int32))
            for name in ("grid2mesh", "mesh", "mesh2grid")
        }
    checkpoint = read_checkpoint(GOLDEN / "c1_checkpoint_official.npz")
    scale = checkpoint.model_config["mesh2grid_edge_normalization_factor"]
    graph = assemble_graph(latitude, longitude, icosphere(2)[-1].vertices, mesh2grid_normalization=scale, **edges)
    arrays = GraphArrays.from_graph(graph, latent_size=16, blocks=1)

    there = Labels.of_checkpoint(checkpoint)
    there = there.renamed(replay_names(there.variables))
    here = there.sorted()
    assert here != there
    network = permute(from_deepmind(checkpoint.parameters), there, here)
    made = np.asarray(APPLY(network, jnp.asarray(x[..., order(there.rows, here.rows)]), arrays))
    error = np.abs(made[..., order(here.outputs, there.outputs)] - y).max()
    assert error <= 1e-5 * np.abs(y).max()


def test_missing_and_surplus_channels_are_refused_by_name() -> None:
    labels = labels_of(emulator())
    with pytest.raises(UserError, match=r"ugrd10m at t-1, ugrd10m at t\+0 is missing, tmp 100 at t-1"):
        order([label for label in labels.rows if label.variable == "tmp"],
              [label for label in labels.inputs if label.variable == "ugrd10m"])  # fmt: skip
    fewer = Labels(labels.inputs[1:], labels.forcings, labels.outputs)
    with pytest.raises(UserError, match="inputs and 5 outputs, but"):
        permute(emulator().network, fewer, fewer)


def test_ambiguous_names_are_refused() -> None:
    labels = labels_of(emulator())
    with pytest.raises(UserError, match="the name wind is ambiguous: it stands for ugrd10m and vgrd10m"):
        labels.renamed({"ugrd10m": "wind", "vgrd10m": "wind"})
    with pytest.raises(UserError, match="output channels are ambiguous: tmp"):
        Labels((), (), (Label("tmp", 1), Label("tmp", 1)))


def test_the_table_of_names_is_one_to_one_and_says_rightly_what_has_levels() -> None:
    assert len(set(NAMES.values())) == len(NAMES)
    for theirs in NAMES.values():
        if theirs in BY_WEATHERBENCH:
            assert (theirs in ATMOSPHERIC) == (BY_WEATHERBENCH[theirs].dimensions == "levels"), theirs
    for pair in STAND_INS:  # alike, not the same: never renamed into each other
        assert NAMES.get(pair.one) != pair.other


def test_a_transformed_variable_is_another_quantity() -> None:
    transform = {"transforms": {"spfh": {"function": "log"}}}
    logarithmic = emulator(targets=["spfh", "tmp"], data=transform)
    assert "log_spfh" in labels_of(logarithmic).variables
    written = official_checkpoint(logarithmic)
    assert "log_spfh" in written.task_config["input_variables"]
    assert "no name for log_spfh" in written.description


def test_an_emulator_comes_back_from_its_file_exactly(tmp_path: Path) -> None:
    small = emulator(inputs=["land_static", "hgtsfc_static"], data={"input_frames": 3})
    export(small, tmp_path / "small.npz", license="free")
    file = read_checkpoint(tmp_path / "small.npz")
    official = read_checkpoint(GOLDEN / "c1_checkpoint_official.npz")
    assert set(file.model_config) == set(official.model_config)
    assert set(file.task_config) - {"static_variables", "level_variables"} == set(official.task_config)
    assert {type(value) for value in file.task_config["pressure_levels"]} == {int}
    assert file.model_config["resolution"] == 30.0 and file.model_config["gnn_msg_steps"] == 2
    assert file.task_config["input_duration"] == "18h" and file.license == "free"
    assert set(file.task_config["target_variables"]) == {
        "temperature",
        "10m_u_component_of_wind",
        "10m_v_component_of_wind",
    }
    there = Labels.of_checkpoint(file)
    # the fields DeepMind's files lack are not needed where all names are DeepMind's
    assert Labels.of_checkpoint(without(file, "static_variables", "level_variables")) == there
    there = there.renamed(replay_names(there.variables))
    assert there.sorted() == labels_of(small)
    assert_same_parameters(permute(from_deepmind(file.parameters), there, there.sorted()), small.network)


def test_variables_without_an_official_name_keep_theirs_and_the_file_says_so(tmp_path: Path) -> None:
    small = emulator(
        targets=["delz", "pressfc"], forcings=["dswrf_avetoa", "day_progress_sin"], mesh2grid_normalization=None
    )
    export(small, tmp_path / "small.npz")
    file = read_checkpoint(tmp_path / "small.npz")
    assert "mesh2grid_edge_normalization_factor" not in file.model_config
    assert set(file.task_config["target_variables"]) == {"delz", "surface_pressure"}
    assert "no name for delz, dswrf_avetoa, which keep the source's" in file.description
    there = Labels.of_checkpoint(file)
    there = there.renamed(replay_names(there.variables))
    assert there.sorted() == labels_of(small)
    assert_same_parameters(permute(from_deepmind(file.parameters), there, there.sorted()), small.network)


def test_a_longer_solar_period_is_told() -> None:
    small = emulator(data={"tisr_period": 6})
    assert "toa_incident_solar_radiation is summed over 6 h" in official_checkpoint(small).description
    assert "summed" not in official_checkpoint(emulator()).description


@pytest.mark.parametrize(
    ("source", "targets", "words"),
    [
        ("embedded", ("tmp", "pressfc"), "the idealised world that graphufs makes itself, in"),
        ("gs://a-bucket/ufs/fv3.zarr", ("tmp",), r"UFS Replay \(gs://a-bucket/ufs/fv3.zarr\), in"),
        ("/some/folder/era5.zarr", ("2m_temperature",), "Trained on era5.zarr, in"),
    ],
)
def test_the_description_says_what_is_predicted_and_what_it_learnt_from(
    source: str, targets: tuple[str, ...], words: str
) -> None:
    small = emulator(targets, (), PROGRESS, data={"source": {"url": source}})
    description = official_checkpoint(small).description
    assert re.search(words, description)
    assert f"to predict {', '.join(sorted(deepmind_names(targets).values() or targets))}." in description
    assert "/some/folder" not in description


def test_a_file_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        export(emulator(), tmp_path / "nowhere" / "small.npz")


def test_a_task_that_does_not_fit_its_parameters_is_refused() -> None:
    official = official_checkpoint(emulator())
    with pytest.raises(UserError, match="no task_config:target_variables"):
        Labels.of_checkpoint(without(official, "target_variables"))
    with pytest.raises(UserError, match="does not fit its parameters"):
        Labels.of_checkpoint(without(official, "forcing_variables"))
    with pytest.raises(UserError, match="does not fit its parameters"):
        Labels.of_checkpoint(without(official, "pressure_levels"))
    with pytest.raises(UserError, match="parameter grid2mesh_gnn.* is missing"):
        Labels.of_checkpoint(Checkpoint({}, {}, official.task_config))
