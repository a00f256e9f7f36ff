"""The section `model`: the network."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from graphufs.config.base import Section
from graphufs.config.identity import ROUNDING, Later, NotIdentity

FUSED_SIZES = (64, 128, 256, 512)
"""Latent sizes of fused kernels: tiles have powers of two, and a row must fit a processor of the GPU."""


class Model(Section):
    """The encode-process-decode network."""

    ALWAYS_HASHED = "mesh_size latent_size message_steps hidden_layers radius_fraction mesh2grid_normalization"
    mesh_size: int = Field(2, ge=0, le=7)
    """Refinements of the icosahedron."""
    latent_size: int = Field(256, ge=1, le=2**16)
    """Channels of the latent vectors of nodes and edges."""
    message_steps: int = Field(4, ge=1, le=1000)
    """Rounds of message passing on the mesh."""
    hidden_layers: int = Field(1, ge=1, le=100)
    radius_fraction: float = Field(0.6, gt=0, le=100)
    """Radius of the grid2mesh query as a fraction of the finest mesh's longest edge."""
    mesh2grid_normalization: float | None = Field(0.6180338738074472, gt=0)
    """Length that scales the mesh2grid edge features; null takes the longest such edge."""
    mesh2grid_ties: Annotated[Literal["own", "reference"], Later()] = "own"
    """Which mesh triangle a grid point on the side of some receives from: `reference` the one that DeepMind's code
    takes, so that its weights make what they make there; `own` that of networks trained here from the start."""
    kernels: Annotated[Literal["auto", "xla", "fused"], NotIdentity(ROUNDING), Later()] = "auto"
    """What computes messages between grid and mesh on a GPU: what XLA makes of them, or fused kernels, which keep no
    array over edges and samples. `auto` takes those only on cards where they were measured to be right and faster."""

    noise: Annotated[int, Later()] = Field(0, ge=0, le=4096)
    """Channels of the noise, the same at all points, that makes the members of an ensemble; 0: a deterministic one."""

    @model_validator(mode="after")
    def _kernels_for_it(self) -> Self:
        why = why_not_fused(self.latent_size, self.hidden_layers)
        if self.kernels == "fused" and why:
            raise ValueError(f"kernels is fused, but {why}; set model.kernels to xla or auto")
        return self


def why_not_fused(latent_size: int, hidden_layers: int) -> str:
    """Why there are no fused kernels for a network; empty where there are."""
    if hidden_layers != 1:
        return f"there are fused kernels for one hidden layer, and hidden_layers is {hidden_layers}"
    if latent_size not in FUSED_SIZES:
        return f"fused kernels are for a latent_size of {', '.join(map(str, FUSED_SIZES))}, and it is {latent_size}"
    return ""
