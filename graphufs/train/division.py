"""How what an update takes is divided over devices that share each sample: the grid's points, and all that lies there.

On the host, points are put in the order of the parts (`PartitionSpec` names the axis they are on); on a device there is
one part, as a grid of one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from graphufs.data.loader import Batch
from graphufs.data.zarr_segment import Part
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.graph.partition import Partition
from graphufs.model.exchange import SPACE
from graphufs.model.one_step import Stepper
from graphufs.train.devices import AXIS, Devices
from graphufs.train.loss import LossWeights

SAME, PARTS = PartitionSpec(), PartitionSpec(SPACE)


@dataclass(frozen=True)
class Division:
    """The parts of an emulator's grid, one for each device of a group that shares samples."""

    partition: Partition

    @staticmethod
    def of(emulator: ReplayEmulator, devices: Devices) -> Division | None:
        """None where each device has whole samples."""
        return Division(Partition.of(emulator.build_graph(), devices.space)) if devices.space > 1 else None

    def constants(self, emulator: ReplayEmulator, weights: LossWeights) -> tuple[Stepper, LossWeights, Any]:
        """Stepper, weights and static fields [part, 1, point], each array that differs with an axis of parts first."""
        static = {name: self.partition.stacked(field) for name, field in emulator.domain.static.items()}
        return emulator.stepper_on(self.partition), weights.divided(self.partition), static

    @staticmethod
    def specs(constants: tuple[Stepper, LossWeights, Any]) -> tuple[Stepper, LossWeights, Any]:
        """How `constants` are divided."""
        stepper, weights, static = constants
        same, parts = (lambda _: SAME), (lambda _: PARTS)
        return (
            replace(
                jax.tree.map(same, stepper),
                graph=jax.tree.map(parts, stepper.graph),
                masks=jax.tree.map(parts, stepper.masks),
            ),
            replace(
                jax.tree.map(same, weights),
                areas=jax.tree.map(parts, weights.areas),
                masks=jax.tree.map(parts, weights.masks),
            ),
            jax.tree.map(parts, static),
        )

    @staticmethod
    def own(constants: Any, specs: Any) -> Any:
        """On a device: the constants without the axis of parts."""
        return jax.tree.map(lambda leaf, spec: leaf[0] if spec == PARTS else leaf, constants, specs)

    def part(self, devices: Devices) -> Part:
        """The points that this process's devices hold, in the order of their parts: what it has to read."""
        here, sharers = devices.sharers
        return Part(np.array_split(self.partition.points, sharers)[here].ravel().astype(np.intp), (here, sharers))

    def outline(self, batch: Batch) -> tuple[Batch, Batch]:
        """The shapes of a batch of which all parts were read, given those of its fields, and how they are divided."""

        def ordered(field: Any) -> Any:
            shape = (*field.shape[:-2], 1, self.partition.points.size)
            return field if field.shape[-2:] == (1, 1) else jax.ShapeDtypeStruct(shape, field.dtype)

        shapes: Batch = jax.tree.map(ordered, batch)
        return shapes, self.batch_specs(shapes)

    @staticmethod
    def batch_specs(batch: Batch) -> Batch:
        """How a batch, with its points in the order of the parts, is divided."""

        def spec(field: Any) -> PartitionSpec:
            return PartitionSpec(AXIS, None, None, None, SPACE if field.shape[-1] > 1 else None)

        specs: Batch = jax.tree.map(spec, batch)
        return specs


def mean_over_devices(found: Any, devices: Devices) -> Any:
    """The mean over all devices of a pytree of float32 arrays, by one exchange; of those that share samples, the sum.

    An exchange waits for the slowest device, and a network has a hundred parameters. What it saves was not measured.
    """
    vector, unravel = ravel_pytree(found)
    if devices.space == 1:
        return unravel(jax.lax.pmean(vector, AXIS))
    return unravel(jax.lax.psum(vector, (AXIS, SPACE)) / devices.groups)


def on_devices(
    function: Callable[..., Any], devices: Devices, division: Division | None, specs: Any, batch: Batch
) -> Callable[..., Any]:
    """A function of (network, constants, (batch, noise)) that each of several devices runs with its part of the batch.

    `specs` are how the constants are divided; the result is the same on all devices.
    """
    samples = PartitionSpec(AXIS)
    fields: Any = samples if division is None else division.batch_specs(batch)

    def shared(network: Any, constants: Any, batch: Any) -> Any:
        return function(network, Division.own(constants, specs), batch)

    return jax.shard_map(
        function if division is None else shared,
        mesh=devices.mesh,
        in_specs=(SAME, specs, (fields, samples)),
        out_specs=SAME,
        check_vma=False,
    )
