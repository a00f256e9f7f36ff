"""The cards that can be planned for: small files in `targets/`, with the sources of what they say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from graphufs.errors import UserError, did_you_mean

TARGETS = Path(__file__).parent / "targets"
COMPILING = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "JAX_PLATFORMS": "cpu"}
"""What must be in the environment of a process that compiles for a target before it imports jax: no driver is needed,
and none is looked for."""


@dataclass(frozen=True)
class Target:
    """A kind of card; in bytes, seconds, bytes/s and FLOP/s."""

    name: str
    title: str
    memory: int
    bandwidth: float
    rates: dict[str, float]
    """FLOP/s of matrix products by the type of their factors, bf16 or f32."""
    link: float
    """To the other cards of a node, each way."""
    network: float
    """To other nodes, each way, for one card."""
    launch: float
    """What a kernel takes besides its work."""
    sources: tuple[str, ...]
    xla: str
    """XLA's description of it, a GpuTargetConfigProto as text."""

    @staticmethod
    def named(name: str) -> Target:
        """The target of a name.

        Raises
        ------
        UserError
            If there is none.
        """
        if name not in names():
            raise UserError(
                f"there is no device {name!r} to plan for{did_you_mean(name, names())}; there are {', '.join(names())}"
            )
        content = yaml.safe_load((TARGETS / f"{name}.yaml").read_text(encoding="utf-8"))
        return Target(name=name, **content | {"sources": tuple(content["sources"])})


def names() -> list[str]:
    """The names of all targets, sorted."""
    return sorted(path.stem for path in TARGETS.glob("*.yaml"))
