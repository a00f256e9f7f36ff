"""How long a program's kernels would take on a card. A model, not a measurement.

    seconds of a kernel = max(bytes / (R_B bandwidth), sum over types of FLOP / (R_F rate), exchange) + launch

with R_B and R_F the shares of a card's bandwidth and rates that kernels reach. An exchange among n devices sends
2 (n - 1) / n times the bytes that each has over the slowest link (a ring's all-reduce), others half of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from graphufs.plan.hlo import Kernel
from graphufs.plan.target import Target

REACHED_BANDWIDTH = 0.9
REACHED_FLOP = 0.6
"""What well-written kernels reach; assumed, to be measured on each kind of card."""
LIMITS = ("traffic", "FLOP", "exchange", "launches")
"""What a program may spend its time on: moving bytes, multiplying, waiting for other devices, starting kernels."""


@dataclass
class Estimate:
    """What a program does, and how long it would take: sums over its kernels as often as they run."""

    seconds: float = 0.0
    bytes: int = 0
    flop: float = 0.0
    exchanged: int = 0
    again: int = 0
    """Bytes that fused kernels load again, of which most come from a cache; not in `bytes`, nor in the time."""
    kernels: int = 0
    by_limit: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0.0))
    """Seconds by what they are spent on."""
    longest: list[dict[str, Any]] = field(default_factory=list)
    """The kernels that take longest: name, shape of the result, calls, and bytes, FLOP and seconds of all calls."""

    @property
    def limit(self) -> str:
        """What most of the time goes into."""
        return max(LIMITS, key=lambda limit: self.by_limit[limit])

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "seconds": self.seconds, "bytes": self.bytes, "flop": self.flop, "exchanged": self.exchanged,
            "again": self.again, "kernels": self.kernels, "limit": self.limit, "seconds_by_limit": self.by_limit,
            "longest": self.longest,
        }  # fmt: skip


def estimate(
    kernels: Iterable[Kernel], target: Target, *, devices: int = 1, nodes: int = 1, longest: int = 10
) -> Estimate:
    """How long kernels would take on one of `devices` cards on each of `nodes` nodes."""
    found = Estimate()
    rows = []
    for kernel in kernels:
        parts = _parts(kernel, target, devices, nodes)
        limit = max(parts, key=lambda name: parts[name])
        seconds = kernel.calls * (parts[limit] + target.launch)
        flop = sum(kernel.flop.values())
        found.seconds += seconds
        found.bytes += kernel.calls * kernel.bytes
        found.flop += kernel.calls * flop
        found.exchanged += kernel.calls * kernel.exchanged
        found.again += kernel.calls * kernel.again
        found.kernels += kernel.calls
        found.by_limit[limit] += kernel.calls * parts[limit]
        found.by_limit["launches"] += kernel.calls * target.launch
        rows.append((seconds, kernel, flop))
    for seconds, kernel, flop in sorted(rows, key=lambda row: -row[0])[:longest]:
        sums = {"bytes": kernel.calls * kernel.bytes, "flop": kernel.calls * flop, "seconds": seconds}
        found.longest.append({"name": kernel.name, "shape": kernel.shape[:80], "calls": kernel.calls, **sums})
    return found


def _parts(kernel: Kernel, target: Target, devices: int, nodes: int) -> dict[str, float]:
    total = devices * nodes
    link = target.network if nodes > 1 else target.link
    ways = (2 if kernel.operation == "all-reduce" else 1) * (total - 1) / total
    return {
        "traffic": kernel.bytes / (REACHED_BANDWIDTH * target.bandwidth),
        "FLOP": sum(flop / (REACHED_FLOP * target.rates[kind]) for kind, flop in kernel.flop.items()),
        "exchange": ways * kernel.exchanged / link,
    }
