"""What differs between kinds of devices in how the network is computed. What it computes is the same to rounding.

The arrangement is handed down: from `GraphArrays.from_graph` (or `Stepper.build`, or an emulator), which take that of
the backend at hand where none is given, through the graph's arrays to the layers. So a program for a GPU can be traced
and compiled on a machine that has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax


@dataclass(frozen=True)
class Arrangement:
    """How one kind of device computes the network; hashable, as it is a static part of what is compiled."""

    block_bytes: int
    """The float32 activations of a block's mesh2grid edges may take this much."""
    samples_in_turn: bool
    """Whether samples follow each other where one fills the cache, instead of being computed together."""
    for_fusion: bool
    """Whether layers, gathers and sums are written as XLA fuses them on a GPU (graphufs.model.gpu_layers), where a step
    takes as long as the bytes that it moves, or as a CPU computes them fastest (graphufs.model.layers). The formulas
    are the same; sums are added up in another order, and in bfloat16 other values are rounded."""
    kernels: Literal["xla", "fused", "interpreted"] = "xla"
    """What computes messages between grid and mesh: XLA, or graphufs.model.kernels, for a GPU or (slowly) anywhere."""


# Blocks of a few times the second-level cache of a core: half or twice as much was slower.
CPU = Arrangement(block_bytes=2**23, samples_in_turn=True, for_fusion=False)
# Blocks large enough to fill an accelerator, whose memory is dearer than its arithmetic.
GPU = Arrangement(block_bytes=2**28, samples_in_turn=False, for_fusion=True)


def arrangement_for(platform: str | None = None) -> Arrangement:
    """The arrangement of a platform as JAX names it; where none is given, of the backend at hand."""
    return CPU if (platform or jax.default_backend()) == "cpu" else GPU
