"""The section `model`: the network."""

from __future__ import annotations

from pydantic import Field

from graphufs.config.base import Section


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
