"""The channel map: which (variable, time, level) each input and output channel of the network is.

The order is GraphCast's: variables by name (Python's string order), within a variable oldest time first, within a time
by level; the forcings of the target time follow all inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from graphufs.errors import UserError

Arrays = Mapping[str, jax.Array]
"""Canonical arrays by variable, each [batch, time, level, lat, lon], where an axis of length 1 stands for all."""


class Slot(NamedTuple):
    """One channel: a variable at a time index (None for a static variable) and a level index."""

    variable: str
    time: int | None
    level: int


@dataclass(frozen=True)
class ChannelMap:
    """The order of a network's channels: its inputs, then forcings; and its outputs, each at time index 0."""

    inputs: tuple[Slot, ...]
    forcings: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    @staticmethod
    def build(
        inputs: Iterable[str],
        targets: Iterable[str],
        forcings: Iterable[str],
        *,
        levels: Mapping[str, int],
        input_frames: int,
        static: Collection[str] = (),
    ) -> ChannelMap:
        """Make the map of variables by name; `levels` has the number of levels of those that have more than one.

        `input_frames` is how many times of the inputs there are that are not among the `static` ones.
        """

        def slots(names: Iterable[str], times: int) -> tuple[Slot, ...]:
            return tuple(
                Slot(name, time, level)
                for name in sorted(set(names))
                for time in ((None,) if name in static else range(times))
                for level in range(levels.get(name, 1))
            )

        return ChannelMap(slots(inputs, input_frames), slots(forcings, 1), slots(targets, 1))

    @property
    def input_size(self) -> int:
        """The number of channels the network reads, forcings included."""
        return len(self.inputs) + len(self.forcings)

    @property
    def output_size(self) -> int:
        """The number of channels the network writes."""
        return len(self.outputs)

    @property
    def input_variables(self) -> tuple[str, ...]:
        """Sorted names."""
        return _names(self.inputs)

    @property
    def forcing_variables(self) -> tuple[str, ...]:
        """Sorted names."""
        return _names(self.forcings)

    @property
    def target_variables(self) -> tuple[str, ...]:
        """Sorted names."""
        return _names(self.outputs)

    @property
    def static_variables(self) -> tuple[str, ...]:
        """Sorted names of the inputs that do not depend on time."""
        return _names(slot for slot in self.inputs if slot.time is None)

    @property
    def input_frames(self) -> int:
        """The number of times of the inputs that depend on time."""
        return 1 + max((slot.time for slot in self.inputs if slot.time is not None), default=0)

    def levels(self, variable: str) -> int:
        """The number of levels of a variable."""
        return 1 + max(
            slot.level for slot in (*self.inputs, *self.forcings, *self.outputs) if slot.variable == variable
        )

    def stack(self, inputs: Arrays, forcings: Arrays, grid_shape: tuple[int, int]) -> jax.Array:
        """Canonical inputs and forcings of one target time -> x [batch, grid, input_size].

        Raises
        ------
        UserError
            If a variable is missing or its shape does not fit the map.
        """
        parts = [(inputs, self.inputs, "inputs"), (forcings, self.forcings, "forcings")]
        batch = max((array.shape[0] for arrays, _, _ in parts for array in arrays.values()), default=1)
        columns = []
        for arrays, slots, kind in parts:
            for name in _names(slots):
                times = {slot.time for slot in slots if slot.variable == name}
                shape = (batch, len(times), self.levels(name), *grid_shape)
                columns.append(_broadcast(arrays, name, shape, kind).reshape(batch, -1, grid_shape[0] * grid_shape[1]))
        return jnp.concatenate(columns, axis=1).swapaxes(1, 2)

    def unstack(self, y: jax.Array, grid_shape: tuple[int, int]) -> dict[str, jax.Array]:
        """Network output y [batch, grid, output_size] -> arrays [batch, 1, level, lat, lon] by target."""
        fields = y.swapaxes(1, 2).reshape(y.shape[0], 1, self.output_size, *grid_shape)
        arrays, start = {}, 0
        for name in self.target_variables:
            stop = start + self.levels(name)
            arrays[name] = fields[:, :, start:stop]
            start = stop
        return arrays


def _names(slots: Iterable[Slot]) -> tuple[str, ...]:
    return tuple(sorted({slot.variable for slot in slots}))


def _broadcast(arrays: Arrays, name: str, shape: tuple[int, ...], kind: str) -> jax.Array:
    if name not in arrays:
        raise UserError(f"{name} is missing from the {kind}; there are {', '.join(sorted(arrays)) or 'none'}")
    array = arrays[name]
    if array.ndim != 5 or any(length not in (1, wanted) for length, wanted in zip(array.shape, shape, strict=True)):
        raise UserError(
            f"{name} in the {kind} has the shape {tuple(array.shape)}; wanted is [batch, time, level, lat, lon] = "
            f"{list(shape)}, where 1 may stand for an axis the variable does not depend on"
        )
    return jnp.broadcast_to(array, shape)
