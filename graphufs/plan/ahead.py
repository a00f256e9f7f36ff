"""Compiling for a card on a machine that has none: devices that only the compiler knows, and figures of the outcome.

Needs CUDA's part of jaxlib (`make setup-cuda`), and no driver: JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 and JAX_PLATFORMS=cpu
must be in the environment before jax is imported (graphufs.plan.child starts such a process).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from graphufs.plan.hlo import kernels_of
from graphufs.plan.target import Target
from graphufs.plan.time_model import estimate
from graphufs.train.devices import AXIS, Devices


@dataclass(frozen=True)
class Machine:
    """Cards of one kind, as many on each node; arrays for them have a shape and a place, and no numbers."""

    target: Target
    devices_of_node: int
    nodes: int
    devices: Devices

    @staticmethod
    def of(target: Target, devices: int = 1, nodes: int = 1, space: int = 1) -> Machine:
        """`devices` cards on each of `nodes` nodes, `space` of which share each sample."""
        topology = topologies.get_topology_desc(
            target.name, "cuda", target_config=target.xla, topology=f"{nodes}x1x{devices}"
        )
        return Machine(target, devices, nodes, Devices(tuple(topology.devices), space))

    @property
    def first(self) -> Machine:
        """One of its cards alone."""
        return Machine(self.target, 1, 1, Devices(self.devices.devices[:1]))

    def replicated(self, tree: Any) -> Any:
        """The shapes of a pytree that is the same on every card."""
        return self._shapes(tree, PartitionSpec())

    def shared(self, tree: Any) -> Any:
        """The shapes of a pytree of arrays [sample, ...] whose samples are divided among the cards."""
        return self._shapes(tree, PartitionSpec(AXIS))

    def divided(self, tree: Any, specs: Any) -> Any:
        """The shapes of a pytree that is divided as `specs`, of the same structure, say."""

        def shape(leaf: Any, spec: PartitionSpec) -> Any:
            return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=NamedSharding(self.devices.mesh, spec))

        return jax.tree.map(shape, tree, specs)

    def _shapes(self, tree: Any, spec: PartitionSpec) -> Any:
        return self.divided(tree, jax.tree.map(lambda _: spec, tree))

    def figures(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, Any]:
        """What a jitted function does with arguments that have a place: memory of a card in bytes, and an estimate."""
        began = time.monotonic()
        compiled = function.lower(*arguments).compile()  # type: ignore[attr-defined]
        found = figures_of(compiled, self.target, devices=self.devices_of_node, nodes=self.nodes)
        return found | {"compiled_in": round(time.monotonic() - began, 1)}


def figures_of(compiled: Any, target: Target, *, devices: int = 1, nodes: int = 1) -> dict[str, Any]:
    """What a compiled program does on a card: its memory in bytes, an estimate, and what could not be counted."""
    sizes, (kernels, warnings) = compiled.memory_analysis(), kernels_of(compiled.as_text())
    found = estimate(kernels, target, devices=devices, nodes=nodes)
    arguments, results = int(sizes.argument_size_in_bytes), int(sizes.output_size_in_bytes)
    memory = {
        "temporary": int(sizes.temp_size_in_bytes),
        "arguments": arguments,
        "results": results - int(sizes.alias_size_in_bytes),
    }
    return {"memory": memory | {"total": sum(memory.values())}, **found.to_json(), "warnings": warnings}
