"""Initial weights: what fits is kept, what has another order is permuted, and every tensor is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from graphufs.config import loading
from graphufs.deepmind.export import export, labels_of
from graphufs.deepmind.initial_report import InitialReport, Kept
from graphufs.deepmind.names import ROWS, Label, Labels, output_tensors, replay_names
from graphufs.deepmind.npz import Checkpoint, read_checkpoint, to_deepmind, write_checkpoint
from graphufs.deepmind.warm_start import initial_network
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.noise import with_maps
from tests.support.emulators import PROGRESS, emulator, save

GOLDEN = Path(__file__).parents[1] / "golden" / "graphcast" / "c1_checkpoint_official.npz"
# the golden network's sizes
SIZES = {"latent_size": 16, "message_steps": 2, "mesh_size": 2}
WEIGHT, BIAS = output_tensors(to_deepmind(emulator().network))
OFFICIAL_FORCINGS = ("toa_incident_solar_radiation", *PROGRESS)


def start(mine: ReplayEmulator, source: Path) -> tuple[dict[str, np.ndarray], InitialReport]:
    """The parameters it begins with, by name; every tensor is reported once, with its own shape."""
    training = mine.experiment.training.model_copy(update={"init_partial": True})
    mine = replace(mine, experiment=mine.experiment.model_copy(update={"training": training}))
    network, report = initial_network(mine, source)
    parameters = to_deepmind(network)
    assert [kept.tensor for kept in report.tensors if kept.how != "left out"] == list(parameters)
    for kept in report.tensors:
        if kept.how != "left out":
            assert kept.shape == parameters[kept.tensor].shape
    return parameters, report


def with_noise(one: ReplayEmulator, *, filled: bool = False) -> ReplayEmulator:
    """The same with maps of noise, zero or not."""
    content = one.experiment.model_dump(mode="json")
    content["model"]["noise"] = 32
    content["training"]["stages"][0]["loss"] = {"kind": "crps"}
    network = with_maps(one.network, 32)
    if filled:
        network = jax.tree.map(lambda leaf: leaf + 0.1 if leaf.shape[0] == 32 and leaf.ndim == 2 else leaf, network)
    return replace(one, experiment=loading.parse(json.dumps(content), origin="the test"), network=network)


def entry(report: InitialReport, tensor: str) -> Kept:
    return next(kept for kept in report.tensors if kept.tensor == tensor)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(one) == set(other)
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_a_checkpoint_of_the_same_experiment_is_kept_whole(tmp_path: Path) -> None:
    trained, mine = emulator(seed=1), emulator(seed=2)
    parameters, report = start(mine, save(trained, tmp_path))
    assert_same(parameters, to_deepmind(trained.network))
    assert report.count("kept") == len(report.tensors) and not report.remarks
    assert report.lines() == [report.summary] and "kept" in report.summary


def test_an_exported_file_comes_back_permuted_and_equal(tmp_path: Path) -> None:
    trained, mine = emulator(seed=1), emulator(seed=2)
    export(trained, tmp_path / "trained.npz")
    parameters, report = start(mine, tmp_path / "trained.npz")
    assert_same(parameters, to_deepmind(trained.network))
    assert {kept.tensor for kept in report.tensors if kept.how == "permuted"} == {*ROWS, WEIGHT, BIAS}
    assert report.count("new") == report.count("in part") == 0


def test_an_official_file_gives_the_channels_both_know_and_the_rest_stays_new() -> None:
    mine = emulator(targets=["tmp", "ugrd10m", "pressfc"], **SIZES)
    fresh, official = to_deepmind(mine.network), read_checkpoint(GOLDEN)
    parameters, report = start(mine, GOLDEN)
    here, there = labels_of(mine), Labels.of_checkpoint(official)
    there = there.renamed(replay_names(there.variables))
    for key in ROWS:
        for row, label in enumerate(here.rows):
            known = label.variable != "pressfc"
            expected = official.parameters[key][there.rows.index(label)] if known else fresh[key][row]
            np.testing.assert_array_equal(parameters[key][row], expected, err_msg=str(label))
        np.testing.assert_array_equal(parameters[key][-3:], official.parameters[key][-3:])
        assert entry(report, key).how == "in part"
        assert "new for pressfc (all 2)" in entry(report, key).why
        assert "25 of the source's 29 channels" in entry(report, key).why
    for key in (WEIGHT, BIAS):
        for column, label in enumerate(here.outputs):
            known = label in there.outputs
            expected = official.parameters[key][..., there.outputs.index(label)] if known else fresh[key][..., column]
            np.testing.assert_array_equal(parameters[key][..., column], expected, err_msg=str(label))
        assert "new for pressfc at t+1" in entry(report, key).why
    for key in set(parameters) - {*ROWS, WEIGHT, BIAS}:
        np.testing.assert_array_equal(parameters[key], official.parameters[key], err_msg=key)
        assert entry(report, key).how == "kept"
    assert report.remarks == ("resolution is 30.0 here, 15.0 there",)


def test_other_levels_are_matched_by_their_value() -> None:
    mine = emulator(targets=["tmp"], levels=[1000, 850, 100], **SIZES)
    parameters, report = start(mine, GOLDEN)
    there = Labels.of_checkpoint(official := read_checkpoint(GOLDEN))
    column = labels_of(mine).outputs.index(Label("tmp", 1, 1000.0))
    theirs = there.outputs.index(Label("temperature", 1, 1000.0))
    np.testing.assert_array_equal(parameters[WEIGHT][:, column], official.parameters[WEIGHT][:, theirs])
    assert entry(report, WEIGHT).why == "2 of the source's 6 channels; new for tmp 850 at t+1"


def test_frames_are_counted_from_the_newest(tmp_path: Path) -> None:
    trained, mine = emulator(seed=1, data={"input_frames": 3}), emulator(seed=2)
    parameters, report = start(mine, save(trained, tmp_path))
    there, here, theirs = to_deepmind(trained.network), labels_of(mine), labels_of(trained)
    for row, label in enumerate(here.rows):
        np.testing.assert_array_equal(parameters[ROWS[0]][row], there[ROWS[0]][theirs.rows.index(label)])
    assert entry(report, ROWS[0]).how == "permuted"
    # one frame of ten input channels is left behind
    assert entry(report, ROWS[0]).why == f"{len(here.rows)} of the source's {len(here.rows) + 10} channels"


def test_a_near_relative_stands_in_and_is_named() -> None:
    mine = emulator(forcings=["dswrf_avetoa", *PROGRESS], **SIZES)
    parameters, report = start(mine, GOLDEN)
    there = Labels.of_checkpoint(official := read_checkpoint(GOLDEN))
    row = labels_of(mine).rows.index(Label("dswrf_avetoa", 1))
    theirs = there.rows.index(Label("toa_incident_solar_radiation", 1))
    np.testing.assert_array_equal(parameters[ROWS[0]][row], official.parameters[ROWS[0]][theirs])
    assert "dswrf_avetoa from toa_incident_solar_radiation (a mean over three hours" in entry(report, ROWS[0]).why
    assert "dswrf_avetoa" not in entry(report, WEIGHT).why


def test_nothing_stands_in_where_the_variable_itself_is_wanted() -> None:
    mine = emulator(forcings=["dswrf_avetoa", *OFFICIAL_FORCINGS], **SIZES)
    why = entry(start(mine, GOLDEN)[1], ROWS[0]).why
    assert "new for dswrf_avetoa (all 3)" in why and "from" not in why


def test_a_logarithm_takes_nothing_from_the_variable_itself(tmp_path: Path) -> None:
    trained = emulator(targets=["spfh", "tmp"], seed=1)
    mine = emulator(targets=["spfh", "tmp"], seed=2, data={"transforms": {"spfh": {"function": "log"}}})
    report = start(mine, save(trained, tmp_path))[1]
    assert "new for log_spfh (all 6)" in entry(report, ROWS[0]).why
    assert start(mine, save(mine, tmp_path, 2))[1].count("kept") == len(report.tensors)


def test_other_numbers_of_message_steps_share_the_common_ones(tmp_path: Path) -> None:
    trained = emulator(seed=1, message_steps=2)
    source = save(trained, tmp_path)
    more, fewer = emulator(seed=2, message_steps=3), emulator(seed=2, message_steps=1)
    parameters, report = start(more, source)
    third = {key for key in parameters if "_2_mesh" in key}
    assert {kept.tensor for kept in report.tensors if kept.how == "new"} == third and third
    assert {entry(report, key).why for key in third} == {"the source has no such part"}
    assert_same({key: parameters[key] for key in third}, {key: to_deepmind(more.network)[key] for key in third})
    assert_same({key: parameters[key] for key in parameters if key not in third}, to_deepmind(trained.network))
    report = start(fewer, source)[1]
    second = {key for key in to_deepmind(trained.network) if "/processor_" in key and "_1_mesh" in key}
    assert {kept.tensor for kept in report.tensors if kept.how == "left out"} == second


def test_outputs_without_one_in_common_are_new(tmp_path: Path) -> None:
    trained, mine = emulator(targets=["tmp"], seed=1), emulator(targets=["ugrd10m"], seed=2)
    parameters, report = start(mine, save(trained, tmp_path))
    assert entry(report, WEIGHT).how == entry(report, BIAS).how == "new"
    np.testing.assert_array_equal(parameters[WEIGHT], to_deepmind(mine.network)[WEIGHT])
    assert entry(report, WEIGHT).why == "0 of the source's 3 channels; new for ugrd10m at t+1"


@pytest.mark.parametrize(
    ("sizes", "here"),
    [
        ({"latent_size": 8}, "latent size 8, 2 message steps, 1 hidden layers"),
        ({"latent_size": 16, "hidden_layers": 2}, "latent size 16, 2 message steps, 2 hidden layers"),
    ],
)
def test_where_nothing_fits_both_sizes_are_named(sizes: dict[str, int], here: str) -> None:
    there = "there 29 inputs, 6 outputs, latent size 16, 2 message steps, 1 hidden layers"
    with pytest.raises(UserError, match=f"here 27 inputs, 5 outputs, {here}; {there}"):
        initial_network(emulator(**sizes), GOLDEN)


def test_a_part_of_another_shape_is_new_with_both_shapes(tmp_path: Path) -> None:
    official = read_checkpoint(GOLDEN)
    part = "mesh_gnn/~_networks_builder/processor_nodes_0_mesh_nodes"
    official.parameters[f"{part}_mlp/~/linear_0:w"] = np.zeros((40, 16), np.float32)
    official.parameters[ROWS[1]] = np.zeros((32, 20), np.float32)
    write_checkpoint(tmp_path / "odd.npz", official)
    report = start(emulator(**SIZES), tmp_path / "odd.npz")[1]
    assert entry(report, f"{part}_mlp/~/linear_0:w").why == "other shape: [32, 16] here, [40, 16] there"
    assert entry(report, f"{part}_layer_norm:scale").why == "belongs to layers of another shape"
    assert entry(report, ROWS[1]).why == "other shape: [27+3, 16] here, [29+3, 20] there"
    assert entry(report, ROWS[0]).how == "permuted"


def test_what_the_source_has_and_this_experiment_has_not_is_left_behind_only_on_demand(tmp_path: Path) -> None:
    source = save(emulator(targets=["tmp", "pressfc"], seed=1), tmp_path)
    message = r"has 23 of the 25 inputs of .*, not pressfc \(all 2\)\. .* --partial"
    with pytest.raises(UserError, match=message):
        initial_network(emulator(targets=["tmp"]), source)
    fewer = emulator(targets=["tmp"], inputs=["land_static", "hgtsfc_static", "pressfc"])
    with pytest.raises(UserError, match="has 3 of the 4 outputs of .*, not pressfc at t\\+1"):
        initial_network(fewer, source)
    # what is new here takes nothing away from what the source knows
    initial_network(emulator(targets=["tmp", "pressfc", "ugrd10m"]), source)
    assert start(emulator(targets=["tmp"]), source)[1].count("new") == 0


def test_another_time_step_is_remarked(tmp_path: Path) -> None:
    trained = emulator(data={"time_step": 3})
    export(trained, tmp_path / "trained.npz")
    for source in (save(trained, tmp_path), tmp_path / "trained.npz"):
        remarks = start(emulator(), source)[1].remarks
        assert remarks == ("the time step is 6 h here, 3 h there; frames are matched by their number",)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; give a checkpoint folder"):
        initial_network(emulator(), tmp_path / "missing.npz")
    with pytest.raises(UserError, match=r"holds no meta\.json"):
        initial_network(emulator(), tmp_path)
    write_checkpoint(tmp_path / "bare.npz", Checkpoint(read_checkpoint(GOLDEN).parameters))
    with pytest.raises(UserError, match="its channels are unknown"):
        initial_network(emulator(), tmp_path / "bare.npz")


def test_the_report_reads_as_text_and_as_json() -> None:
    report = start(emulator(targets=["tmp", "pressfc"], **SIZES), GOLDEN)[1]
    lines = report.lines()
    assert lines[0] == report.summary and lines[0].endswith("90 kept, 4 in part")
    assert lines[1] == report.remarks[0] and len(lines) == 2 + 4
    assert lines[2].startswith(f"in part: {ROWS[0]} [28, 16] (")
    content = json.loads(json.dumps(report.to_json()))
    assert content["source"] == str(GOLDEN) and len(content["tensors"]) == len(report.tensors)


def test_an_ensemble_model_starts_as_the_deterministic_one_and_keeps_the_noise_of_another(tmp_path: Path) -> None:
    deterministic, mine = emulator(seed=1), with_noise(emulator(seed=2))
    parameters, report = start(mine, save(deterministic, tmp_path / "one"))
    of_perceptrons = {key: value for key, value in parameters.items() if "noise" not in key}
    assert_same(of_perceptrons, to_deepmind(deterministic.network))
    new = [kept for kept in report.tensors if kept.how == "new"]
    assert len(new) == 10 and all("the source has no such tensor" in kept.why for kept in new)
    assert not any(parameters[kept.tensor].any() for kept in new)
    trained = with_noise(emulator(seed=3), filled=True)
    parameters, report = start(mine, save(trained, tmp_path / "two"))
    assert_same(parameters, to_deepmind(trained.network))
    assert report.count("kept") == len(report.tensors)
    _, report = start(emulator(seed=2), save(trained, tmp_path / "three"))
    assert report.count("left out") == 10


def test_an_ensemble_model_is_not_exported_unless_it_has_learnt_no_noise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"small is an ensemble model, conditioned on model.noise of 32 channels"):
        export(with_noise(emulator(), filled=True), tmp_path / "ensemble.npz")
    export(with_noise(emulator(seed=1)), tmp_path / "zeros.npz")
    export(emulator(seed=1), tmp_path / "plain.npz")
    assert_same(read_checkpoint(tmp_path / "zeros.npz").parameters, read_checkpoint(tmp_path / "plain.npz").parameters)
