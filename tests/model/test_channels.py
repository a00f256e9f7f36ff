"""The channel map: GraphCast's order, and arrays into channels and back."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.model.channels import ChannelMap, Slot

CHANNELS = ChannelMap.build(
    ["tmp", "Zeta", "land_static", "year_progress_sin"],
    ["tmp", "Zeta"],
    ["year_progress_sin"],
    levels={"tmp": 2},
    input_frames=2,
    static={"land_static"},
)


def test_channels_go_by_name_then_time_then_level_with_forcings_last() -> None:
    assert CHANNELS.inputs == (
        Slot("Zeta", 0, 0), Slot("Zeta", 1, 0), Slot("land_static", None, 0),
        Slot("tmp", 0, 0), Slot("tmp", 0, 1), Slot("tmp", 1, 0), Slot("tmp", 1, 1),
        Slot("year_progress_sin", 0, 0), Slot("year_progress_sin", 1, 0),
    )  # fmt: skip
    assert CHANNELS.forcings == (Slot("year_progress_sin", 0, 0),)
    assert CHANNELS.outputs == (Slot("Zeta", 0, 0), Slot("tmp", 0, 0), Slot("tmp", 0, 1))
    assert (CHANNELS.input_size, CHANNELS.output_size, CHANNELS.input_frames) == (10, 3, 2)
    assert CHANNELS.static_variables == ("land_static",) and CHANNELS.levels("tmp") == 2


def test_each_channel_holds_its_slot() -> None:
    batch, grid = 3, (2, 4)
    inputs = {
        "Zeta": np.random.default_rng(0).normal(size=(batch, 2, 1, *grid)),
        "tmp": np.random.default_rng(1).normal(size=(batch, 2, 2, *grid)),
        "land_static": np.random.default_rng(2).normal(size=(1, 1, 1, *grid)),
        "year_progress_sin": np.random.default_rng(3).normal(size=(batch, 2, 1, 1, 1)),
    }
    forcings = {"year_progress_sin": np.random.default_rng(4).normal(size=(batch, 1, 1, 1, 1))}
    x = CHANNELS.stack(
        {name: jnp.asarray(array) for name, array in inputs.items()},
        {name: jnp.asarray(array) for name, array in forcings.items()},
        grid,
    )
    assert x.shape == (batch, 8, 10)
    for channel, (name, time, level) in enumerate(CHANNELS.inputs + CHANNELS.forcings):
        source = inputs if channel < len(CHANNELS.inputs) else forcings
        expected = np.broadcast_to(source[name][:, time or 0, level], (batch, *grid)).reshape(batch, -1)
        np.testing.assert_allclose(x[:, :, channel], expected, rtol=1e-6)


def test_outputs_come_back_as_canonical_arrays() -> None:
    y = jnp.arange(2 * 8 * 3).reshape(2, 8, 3)
    arrays = CHANNELS.unstack(y, (2, 4))
    assert {name: array.shape for name, array in arrays.items()} == {"Zeta": (2, 1, 1, 2, 4), "tmp": (2, 1, 2, 2, 4)}
    np.testing.assert_array_equal(arrays["tmp"][1, 0, 1].ravel(), y[1, :, 2])


def test_a_missing_variable_and_a_wrong_shape_are_named() -> None:
    with pytest.raises(UserError, match="Zeta is missing from the inputs"):
        CHANNELS.stack({}, {}, (2, 4))
    with pytest.raises(UserError, match=r"Zeta in the inputs has the shape \(1, 3"):
        CHANNELS.stack({"Zeta": jnp.zeros((1, 3, 1, 2, 4))}, {}, (2, 4))
