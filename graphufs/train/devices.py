"""The devices a training runs on: a batch is divided among them, parameters are the same on all.

On one device nothing is sharded. With several, each holds its part of the batch (`jax.sharding`), and with several
processes (`jax.distributed`, started by the one that starts the processes) each process brings its part. Groups of
devices may share each sample (`space`): each has a part of the grid then. What no device needs whole, an optimizer's
moments, can be divided over all of them.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from graphufs.config.training import DeviceMesh
from graphufs.errors import UserError
from graphufs.model.compile import jit
from graphufs.model.exchange import SPACE

AXIS = "batch"


@dataclass(frozen=True)
class Devices:
    """Devices that share each batch, over all processes."""

    devices: tuple[jax.Device, ...]
    space: int = 1
    """How many, in a row, share each sample."""

    @staticmethod
    def choose(batch_size: int, wanted: int | None = None, mesh: DeviceMesh | None = None) -> Devices:
        """The devices for a batch: `wanted` ones of this machine, or the most that divide it as `mesh` says.

        Raises
        ------
        UserError
            If there are fewer than wanted, or they or the processes cannot share the batch evenly.
        """
        processes, local = jax.process_count(), jax.local_device_count()
        if wanted is not None and wanted > local:
            raise UserError(
                f"training.compute.devices is {wanted}, but this machine shows {local} "
                f"{jax.default_backend()} device{'s' if local > 1 else ''}; ask for no more, or for null"
            )
        if mesh is not None and (mesh.space > 1 or mesh.batch is not None):
            return _arranged(batch_size, wanted, mesh)
        if batch_size % (processes * (wanted or 1)):
            raise UserError(
                f"a batch of {batch_size} cannot be shared evenly by {processes} processes with {wanted or 1} devices "
                "each; change training.batch_size, or the number of processes or devices"
            )
        share = batch_size // processes
        count = wanted or max(n for n in range(1, local + 1) if share % n == 0)
        return Devices(_of_each_process(count))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.devices)

    @property
    def processes(self) -> int:
        """How many processes take part."""
        return jax.process_count()

    @property
    def groups(self) -> int:
        """How many parts a batch is in: devices, or groups of them that share each sample."""
        return self.count // self.space

    @property
    def shard(self) -> tuple[int, int]:
        """(part, parts): which part of each batch this process reads, of how many there are."""
        together = self.sharers[1]
        return jax.process_index() // together, jax.process_count() // together

    @property
    def sharers(self) -> tuple[int, int]:
        """(this one, processes): the processes that share each sample with this one."""
        together = max(1, self.space * jax.process_count() // self.count)
        return jax.process_index() % together, together

    @property
    def primary(self) -> bool:
        """Whether this process is the one that writes."""
        return jax.process_index() == 0

    @property
    def single(self) -> bool:
        """Whether there is nothing to share."""
        return self.count == 1

    @property
    def mesh(self) -> Mesh:
        """The devices as a mesh: of one axis, or of two where some share each sample."""
        devices = np.array(self.devices)
        if self.space == 1:
            return Mesh(devices, (AXIS,))
        return Mesh(devices.reshape(self.groups, self.space), (AXIS, SPACE))

    def scatter(self, batch: Any, specs: Any = None) -> Any:
        """A pytree of host arrays [this process's samples, ...] as arrays [all samples, ...] over the devices.

        `specs`, of the same structure: how each array is divided; None: by samples alone. Of what is divided over the
        devices that share samples, along its last axis, this process has what its own devices hold.
        """
        if self.single:
            return batch
        specs = jax.tree.map(lambda _: PartitionSpec(AXIS), batch) if specs is None else specs
        first = self.shard[0] * self.groups // self.shard[1]

        def place(part: Any, spec: PartitionSpec) -> jax.Array:
            here, sharers = self.sharers if SPACE in spec else (0, 1)
            begins = first * (len(part) * self.shard[1] // self.groups), here * part.shape[-1]

            def piece(index: Any) -> Any:
                rows, points = (
                    slice(*(bound - begin for bound in index[axis].indices(shape[axis])[:2]))
                    for axis, begin in zip((0, -1), begins, strict=True)
                )
                return part[rows, ..., points]

            shape = (len(part) * self.shard[1], *part.shape[1:-1], part.shape[-1] * sharers)
            return jax.make_array_from_callback(shape, NamedSharding(self.mesh, spec), piece)

        return jax.tree.map(place, batch, specs)

    def replicate(self, tree: Any) -> Any:
        """A pytree of arrays, the same on every device."""
        return self.place(tree, jax.tree.map(lambda _: PartitionSpec(), tree))

    def place(self, tree: Any, specs: Any) -> Any:
        """A pytree of arrays that every process has whole, divided as `specs`, of the same structure, say."""
        if self.single:
            return tree

        def divided(leaf: Any, spec: PartitionSpec) -> jax.Array:
            whole = np.asarray(leaf)
            return jax.make_array_from_callback(whole.shape, NamedSharding(self.mesh, spec), lambda index: whole[index])

        return jax.tree.map(divided, tree, specs)

    def spread(self, tree: Any) -> Any:
        """How a pytree of arrays is divided over all devices: each along its first axis that can be cut evenly.

        Vectors and numbers, which are small, are the same on every device, as is what cannot be cut.
        """

        def spec(leaf: Any) -> PartitionSpec:
            axes = [axis for axis, size in enumerate(leaf.shape) if leaf.ndim > 1 and size % self.count == 0]
            return PartitionSpec(*[None] * axes[0], self.mesh.axis_names) if axes else PartitionSpec()

        return jax.tree.map(spec, tree)

    def constrain(self, tree: Any, specs: Any) -> Any:
        """In a program: a pytree of arrays, divided as `specs`, of the same structure, say."""
        return jax.tree.map(
            lambda leaf, spec: jax.lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, spec)), tree, specs
        )

    def gather(self, tree: Any) -> Any:
        """A pytree of arrays, divided or not, so that this process has all of each. All processes have to ask."""
        if self.processes == 1:
            return tree
        whole = jit(lambda leaf: leaf, out_shardings=NamedSharding(self.mesh, PartitionSpec()))
        return jax.tree.map(
            lambda leaf: leaf if leaf.is_fully_replicated else np.asarray(whole(leaf).addressable_data(0)), tree
        )

    def local(self, tree: Any) -> Any:
        """A pytree that `replicate` made, on this process's first device: for work that every process does alone."""
        if self.single:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def agree(self, *values: bool) -> tuple[bool, ...]:
        """What the first process says, in all processes; in one process, `values`."""
        if self.processes == 1:
            return values
        from jax.experimental import multihost_utils

        return tuple(map(bool, multihost_utils.broadcast_one_to_all(np.array(values))))

    def wait(self, what: str) -> None:
        """Wait until all processes are here."""
        if self.processes > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(what)

    def environment(self) -> dict[str, Any]:
        """What the bits of a result depend on besides the experiment: devices, cores, versions, compiler flags."""
        return {
            "platform": self.devices[0].platform,
            "device": self.devices[0].device_kind,
            "devices": self.count,
            **({"space": self.space} if self.space > 1 else {}),
            "processes": self.processes,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "machine": platform.machine(),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            **{name: metadata.version(name) for name in ("jax", "jaxlib", "optax", "equinox", "numpy")},
        }


def _of_each_process(count: int) -> tuple[jax.Device, ...]:
    """The first `count` devices of every process."""
    by_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    return tuple(device for process in sorted(by_process) for device in by_process[process][:count])


def _arranged(batch_size: int, wanted: int | None, mesh: DeviceMesh) -> Devices:
    """Devices as training.compute.mesh says."""
    processes, local = jax.process_count(), jax.local_device_count()
    share = math.lcm(mesh.space, processes)  # the fewest devices that are groups, and as many in each process
    most = (wanted or local) * processes // share * share
    groups = mesh.batch
    if groups is None:
        possible = range(share, most + 1, share) if wanted is None else [wanted * processes]
        fitting = [n for n in possible if n % mesh.space == 0 and batch_size % (n // mesh.space) == 0]
        groups = max(fitting, default=0) // mesh.space
    count = groups * mesh.space
    here = count // processes
    fits = count > 0 and count % processes == 0 and here <= local and wanted in (None, here)
    if not fits or batch_size % groups or max(here, mesh.space) % min(here, mesh.space):
        raise UserError(
            f"training.compute.mesh is {{batch: {mesh.batch or 'null'}, space: {mesh.space}}}, which {processes} "
            f"process{'es' if processes > 1 else ''} with {wanted or local} {jax.default_backend()} "
            f"device{'s' if (wanted or local) > 1 else ''} each cannot be arranged to for a batch of {batch_size}: "
            "batch x space must be the devices of all processes, batch must divide training.batch_size, and space and "
            "a process's devices must divide one another"
        )
    return Devices(_of_each_process(here), mesh.space)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two environments, in words."""
    return [
        f"{name.replace('_', ' ')} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
