"""What tests of the training share."""

from __future__ import annotations

import numpy as np

from graphufs.emulator import checkpoint


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
