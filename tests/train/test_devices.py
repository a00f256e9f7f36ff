"""Several devices: the same training to rounding, the same bits each time."""

from __future__ import annotations

import shutil

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from graphufs.config import loading
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from graphufs.train.devices import Devices, differences
from tests.conftest import TINY
from tests.support.training import assert_close, assert_equal_arrays, final_arrays, train_elsewhere

# One program to compile for each number of devices: with a rollout, and as small as it gets.
SETTINGS = [
    "model.message_steps=1",
    "training.stages=[{name: rollout, updates: 12, rollout: 2, learning_rate: {peak: 1.0e-3}}]",
    "training.batch_size=4",
    "training.validate_every=16",
    "training.divergence.factor=null",
]


@pytest.fixture(scope="module")
def alone_root(normalized_root, tmp_path_factory):
    """A root with a training on one device."""
    root = shutil.copytree(normalized_root, tmp_path_factory.mktemp("alone") / "root")
    assert run_step("train", loading.load(TINY, SETTINGS), root)["status"] == "completed"
    return root


@pytest.fixture(scope="module")
def alone(alone_root):
    """Its experiment and final arrays."""
    experiment = loading.load(TINY, SETTINGS)
    return experiment, final_arrays(Paths(experiment, alone_root))


def final_of_two_devices(experiment, root):
    """The final arrays of a training on two devices."""
    _, found = train_elsewhere(experiment, root, devices=2)
    last = checkpoint.last(Paths(experiment, root).checkpoints)
    assert checkpoint.read_meta(last)["environment"]["devices"] == 2
    return found


@pytest.mark.long  # two that share each sample do so in test_space
def test_two_devices_train_what_one_does(alone, normalized_root, tmp_path):
    experiment, expected = alone
    found = final_of_two_devices(experiment, shutil.copytree(normalized_root, tmp_path / "root"))
    assert_close(expected, found)
    assert any((expected[name] != found[name]).any() for name in expected)  # else there was one device only


@pytest.mark.long  # one device does so in test_trainer
def test_two_devices_give_the_same_bits_each_time(normalized_root, tmp_path):
    experiment = loading.load(TINY, SETTINGS)
    roots = [shutil.copytree(normalized_root, tmp_path / name) for name in ("first", "second")]
    assert_equal_arrays(*(final_of_two_devices(experiment, root) for root in roots))


@pytest.mark.long
def test_two_devices_train_an_ensemble_with_the_noise_that_one_has(normalized_root, tmp_path):
    stage = "{name: rollout, updates: 12, rollout: 2, loss: {kind: crps}, learning_rate: {peak: 1.0e-3}}"
    experiment = loading.load(TINY, [*SETTINGS, "model.noise=32", f"training.stages=[{stage}]"])
    roots = [shutil.copytree(normalized_root, tmp_path / name) for name in ("one", "two")]
    assert run_step("train", experiment, roots[0])["status"] == "completed"
    final_of_two_devices(experiment, roots[1])
    alone, together = (
        [(line["event"], line["loss"]) for line in metrics_file.read(Paths(experiment, root).metrics)] for root in roots
    )
    assert [event for event, _ in alone] == [event for event, _ in together]
    np.testing.assert_allclose([loss for _, loss in together], [loss for _, loss in alone], rtol=1e-3)


@pytest.mark.long
def test_a_training_may_go_on_with_another_number_of_devices(alone, alone_root, tmp_path):
    experiment, expected = alone
    paths = Paths(experiment, shutil.copytree(alone_root, tmp_path / "root"))
    shutil.rmtree(checkpoint.last(paths.checkpoints))
    assert checkpoint.updates(paths.checkpoints) == [6]
    result, found = train_elsewhere(experiment, paths.root, devices=2)
    (warning,) = result["warnings"]
    assert "goes on from update 6 elsewhere" in warning and "devices was 1, is 2" in warning
    assert_close(expected, found)


@pytest.mark.long  # two on nodes of Slurm do so among the faults (tests/slurm/test_jobs)
def test_two_processes_that_share_each_batch_train_what_one_does(alone, normalized_root, tmp_path):
    experiment, expected = alone
    root = shutil.copytree(normalized_root, tmp_path / "root")
    assert_close(expected, train_elsewhere(experiment, root, devices=1, processes=2)[1])
    meta = checkpoint.read_meta(checkpoint.last(Paths(experiment, root).checkpoints))
    assert meta["environment"]["processes"] == 2


WHOLE = [*SETTINGS, "training.optimizer.eps=1.0e-2", "training.compute.precision=float32"]
"""Where small second moments do not enlarge what is rounded."""
SHARDED = [*WHOLE, "training.compute.shard_optimizer=true"]
ARRANGED = [(2, 1, 1), (4, 1, 2), (1, 2, 2), (2, 2, 1)]


@pytest.mark.parametrize(("count", "space"), [(4, 1), (4, 2)])
def test_moments_are_divided_along_an_axis_that_can_be_cut(count, space):
    devices = Devices(tuple(jax.devices()) * count, space)
    axes = devices.mesh.axis_names
    shapes = [(8, 3), (3, 8), (8, 8), (8,), (3, 5), ()]
    found = devices.spread([jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes])
    whole = PartitionSpec()
    assert found == [PartitionSpec(axes), PartitionSpec(None, axes), PartitionSpec(axes), whole, whole, whole]


@pytest.fixture(scope="module")
def unsharded(normalized_root, tmp_path_factory):
    """The final arrays of a training on one device, which has nothing to divide."""
    root = shutil.copytree(normalized_root, tmp_path_factory.mktemp("unsharded") / "root")
    experiment = loading.load(TINY, SHARDED)
    assert run_step("train", experiment, root)["status"] == "completed"
    return final_arrays(Paths(experiment, root))


def assert_as_learnt(found, expected):
    """Parameters to 1e-6; moments to what sums of gradients in another order leave."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype == np.float32:
            limit = 1e-6 if name.startswith("network") else 1e-4 * np.abs(values).max()
            np.testing.assert_allclose(found[name], values, rtol=0, atol=limit, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize(("devices", "processes", "space"), ARRANGED)
def test_an_optimizer_divided_over_devices_learns_what_a_whole_one_does(
    unsharded, normalized_root, tmp_path, devices, processes, space
):
    experiment = loading.load(TINY, [*SHARDED, f"training.compute.mesh.space={space}"])
    root = shutil.copytree(normalized_root, tmp_path / "root")
    _, found = train_elsewhere(experiment, root, devices, processes)
    assert_as_learnt(found, unsharded)
    paths = Paths(experiment, root)
    shutil.rmtree(checkpoint.last(paths.checkpoints))  # from the middle on: here bit for bit, elsewhere to rounding
    result, again = train_elsewhere(experiment, root, devices, processes)
    assert "elsewhere" not in str(result["warnings"])
    assert_equal_arrays(found, again)
    shutil.rmtree(checkpoint.last(paths.checkpoints))
    result = run_step("train", loading.load(TINY, WHOLE), root)
    assert "goes on from update 6 elsewhere" in result["warnings"][0]
    assert_as_learnt(final_arrays(paths), found)


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"devices is 5, but this machine shows 1 cpu device;"):
        Devices.choose(10, 5)


def test_differences_name_what_changed():
    here = Devices.choose(1).environment()
    assert differences(here, here) == []
    assert differences(here | {"cores": 64, "jax": "0.1"}, here) == [
        f"cores was 64, is {here['cores']}",
        f"jax was '0.1', is {here['jax']!r}",
    ]
