"""What tests of the training share."""

from __future__ import annotations

import os
import socket

import jax
import numpy as np

from graphufs.emulator import checkpoint
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from tests.support.children import Child


def final_arrays(paths):
    """All arrays of a run's last checkpoint."""
    path = checkpoint.last(paths.checkpoints)
    return {
        name: values
        for file in ("emulator.npz", "training.npz")
        for name, values in checkpoint.read_arrays(path, file).items()
    }


def assert_equal_arrays(one, other):
    """Equal names, types and bits."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.dtype == other[name].dtype
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def assert_close(one, other):
    """Equal to rounding, which Adam's division by small moments enlarges."""
    for name, values in one.items():
        if name.startswith("network"):
            np.testing.assert_allclose(values, other[name], rtol=0, atol=2e-4, err_msg=name)


def devices_seen(count):
    """The environment of a process that sees so many CPU devices."""
    return os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    }


def _train(connection, experiment, root, process, processes, address):
    """In the child: train, as one of several processes."""
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, processes, process)
    return run_step("train", experiment, root)


def train_elsewhere(experiment, root, devices, processes=1):
    """Train in processes that see so many CPU devices each; the first one's result, and the final arrays."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    children = [
        Child(_train, experiment, root, process, processes, address, environment=devices_seen(devices))
        for process in range(processes)
    ]
    try:
        results = [child.hear() for child in children]
    finally:
        for child in children:
            child.kill()
    assert all(result["status"] == "completed" for result in results)
    return results[0], final_arrays(Paths(experiment, root))
