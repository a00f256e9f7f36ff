"""The devices a training runs on: a batch is divided among them, parameters are the same on all.

On one device nothing is sharded. With several, each holds its part of the batch (`jax.sharding`), and with several
processes (`jax.distributed`, started by the one that starts the processes) each process brings its part.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from graphufs.errors import UserError

AXIS = "batch"


@dataclass(frozen=True)
class Devices:
    """Devices that share each batch, over all processes."""

    devices: tuple[jax.Device, ...]

    @staticmethod
    def choose(batch_size: int, wanted: int | None = None) -> Devices:
        """The devices for a batch: `wanted` ones of this machine, or the most that divide it.

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
        if batch_size % (processes * (wanted or 1)):
            raise UserError(
                f"a batch of {batch_size} cannot be shared evenly by {processes} processes with {wanted or 1} devices "
                "each; change training.batch_size, or the number of processes or devices"
            )
        share = batch_size // processes
        count = wanted or max(n for n in range(1, local + 1) if share % n == 0)
        by_process: dict[int, list[jax.Device]] = {}
        for device in jax.devices():
            by_process.setdefault(device.process_index, []).append(device)
        return Devices(tuple(device for process in sorted(by_process) for device in by_process[process][:count]))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.devices)

    @property
    def processes(self) -> int:
        """How many processes take part."""
        return jax.process_count()

    @property
    def shard(self) -> tuple[int, int]:
        """(process, processes): which part of each batch this process reads."""
        return jax.process_index(), jax.process_count()

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
        """The devices as a mesh of one axis."""
        return Mesh(np.array(self.devices), (AXIS,))

    def scatter(self, batch: Any) -> Any:
        """A pytree of host arrays [this process's samples, ...] as arrays [all samples, ...] over the devices."""
        if self.single:
            return batch
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        return jax.tree.map(lambda part: jax.make_array_from_process_local_data(sharding, part), batch)

    def replicate(self, tree: Any) -> Any:
        """A pytree of arrays, the same on every device."""
        if self.single:
            return tree
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)

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
            "processes": self.processes,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "machine": platform.machine(),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            **{name: metadata.version(name) for name in ("jax", "jaxlib", "optax", "equinox", "numpy")},
        }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two environments, in words."""
    return [
        f"{name.replace('_', ' ')} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
