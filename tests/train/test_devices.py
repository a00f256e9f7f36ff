"""Several devices: the same training to rounding, the same bits each time."""

from __future__ import annotations

import os
import shutil
import socket

import jax
import numpy as np
import pytest

from graphufs.config import loading
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from graphufs.train.devices import Devices, differences
from tests.conftest import TINY
from tests.support.children import Child
from tests.support.training import assert_equal_arrays, final_arrays

# One program to compile for each number of devices: with a rollout, and as small as it gets.
SETTINGS = [
    "model.message_steps=1",
    "training.stages=[{name: rollout, updates: 12, rollout: 2, learning_rate: {peak: 1.0e-3}}]",
    "training.batch_size=4",
    "training.validate_every=16",
    "training.divergence.factor=null",
]


def train(connection, experiment, root, process, processes, address):
    """In the child: train, as one of several processes."""
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, processes, process)
    return run_step("train", experiment, root)


def train_elsewhere(experiment, root, devices, process=0, processes=1, address=""):
    """Start a training in a process of its own that sees so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags}
    return Child(train, experiment, root, process, processes, address, environment=environment)


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


def close(one, other):
    """Equal to rounding, which Adam's division by small moments enlarges."""
    for name, values in one.items():
        if name.startswith("network"):
            np.testing.assert_allclose(values, other[name], rtol=0, atol=2e-4, err_msg=name)


def final_of_two_devices(experiment, root):
    """The final arrays of a training on two devices."""
    assert train_elsewhere(experiment, root, devices=2).hear()["status"] == "completed"
    paths = Paths(experiment, root)
    assert checkpoint.read_meta(checkpoint.last(paths.checkpoints))["environment"]["devices"] == 2
    return final_arrays(paths)


@pytest.mark.long  # two that share each sample do so in test_space
def test_two_devices_train_what_one_does(alone, normalized_root, tmp_path):
    experiment, expected = alone
    found = final_of_two_devices(experiment, shutil.copytree(normalized_root, tmp_path / "root"))
    close(expected, found)
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
    result = train_elsewhere(experiment, paths.root, devices=2).hear()
    (warning,) = result["warnings"]
    assert "goes on from update 6 elsewhere" in warning and "devices was 1, is 2" in warning
    close(expected, final_arrays(paths))


@pytest.mark.long  # two on nodes of Slurm do so among the faults (tests/slurm/test_jobs)
def test_two_processes_that_share_each_batch_train_what_one_does(alone, normalized_root, tmp_path):
    experiment, expected = alone
    root = shutil.copytree(normalized_root, tmp_path / "root")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [train_elsewhere(experiment, root, 1, process, 2, address) for process in (0, 1)]
    try:
        for child in both:
            assert child.hear()["status"] == "completed"
    finally:
        for child in both:
            child.kill()
    paths = Paths(experiment, root)
    close(expected, final_arrays(paths))
    meta = checkpoint.read_meta(checkpoint.last(paths.checkpoints))
    assert meta["environment"]["processes"] == 2


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
