"""The configurations the model is measured on, with made-up fields: only sizes matter for the time.

Sizes follow from the tables of edges and FLOPs that the reference implementation was measured with: `a` 32 x 64 points
and a mesh of 3 refinements (3148 / 5100 / 6144 edges grid to mesh / on the mesh / mesh to grid), 64 wide; `b` the same
points, 4 refinements (3128 / 20,460 / 6144), 128 wide; `p0` the published prototype's network on 181 x 360 points, 1
degree with poles (100,655 / 1260 / 195,480), 256 wide. These have the prototype's 29 input and 6 output channels.
`deg1` and `deg025` are of the size of GraphCast's published networks: 13 levels, 512 wide, 16 steps, a mesh of 5 or 6
refinements on 181 x 360 or 721 x 1440 points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from graphufs.graph.build import Graph, build_graph
from graphufs.model.arrangement import Arrangement
from graphufs.model.channels import ChannelMap
from graphufs.model.network import GraphCast
from graphufs.model.one_step import Stepper
from graphufs.train.loss import LossWeights

LEVELS = (100.0, 500.0, 1000.0)
THIRTEEN = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 700.0, 850.0, 925.0, 1000.0)
PROFILES = ("tmp", "ugrd", "vgrd", "spfh", "geopotential")
PROGRESS = ("year_progress_sin", "year_progress_cos", "day_progress_sin", "day_progress_cos")
FORCINGS = ("dswrf_avetoa", *PROGRESS)
SURFACE = ("pressfc", "ugrd10m", "vgrd10m")
STATIC = ("land_static", "hgtsfc_static")


class Sample(NamedTuple):
    """A batch of one step: canonical arrays."""

    inputs: dict[str, Any]
    targets: dict[str, Any]
    forcings: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A configuration: its grid and its network."""

    name: str
    latitude: NDArray[np.float32]
    longitudes: int
    mesh_size: int
    latent_size: int
    message_steps: int
    levels: tuple[float, ...] = LEVELS
    profiles: tuple[str, ...] = ("tmp",)
    """The variables that have these levels."""

    @property
    def targets(self) -> tuple[str, ...]:
        """What is predicted."""
        return (*SURFACE, *self.profiles)

    @property
    def longitude(self) -> NDArray[np.float32]:
        """Degrees."""
        return np.arange(self.longitudes, dtype=np.float32) * np.float32(360 / self.longitudes)

    def graph(self) -> Graph:
        """Its graph."""
        return build_graph(self.latitude, self.longitude, mesh_size=self.mesh_size)

    def channels(self) -> ChannelMap:
        """The prototype's channels."""
        levels, inputs = dict.fromkeys(self.profiles, len(self.levels)), (*self.targets, *STATIC, *FORCINGS)
        return ChannelMap.build(inputs, self.targets, FORCINGS, levels=levels, input_frames=2, static=STATIC)

    def network(self) -> GraphCast:
        """Random parameters."""
        channels = self.channels()
        return GraphCast.init(
            inputs=channels.input_size,
            outputs=channels.output_size,
            latent_size=self.latent_size,
            message_steps=self.message_steps,
            hidden_layers=1,
            key=jax.random.key(0),
        )

    def stepper(
        self, graph: Graph, precision: Literal["float32", "bfloat16"], arrangement: Arrangement | None = None
    ) -> Stepper:
        """The time step, with statistics that scale."""
        channels = self.channels()
        ones = {name: np.ones(channels.levels(name)) for name in channels.input_variables}
        mean, diffs = ({name: factor * one for name, one in ones.items()} for factor in (0.1, 0.5))
        return Stepper.build(
            channels,
            graph,
            mean=mean,
            std=ones,
            diffs_std=diffs,
            latent_size=self.latent_size,
            precision=precision,
            arrangement=arrangement,
        )

    def weights(self) -> LossWeights:
        """Latitude and level weights."""
        return LossWeights.build(
            self.channels(), self.latitude, self.longitude, levels=dict.fromkeys(self.profiles, self.levels)
        )

    def sample(self, batch: int, steps: int = 1) -> Sample:
        """Normally distributed fields, with so many target times."""
        random, channels = np.random.default_rng(0), self.channels()

        def field(name: str, times: int) -> jax.Array:
            samples = 1 if name in STATIC else batch
            shape = (samples, times, channels.levels(name), len(self.latitude), self.longitudes)
            return jnp.asarray(random.normal(size=shape), jnp.float32)

        inputs = {name: field(name, 1 if name in STATIC else 2) for name in channels.input_variables}
        targets, forcings = ({name: field(name, steps) for name in names} for names in (self.targets, FORCINGS))
        return Sample(inputs, targets, forcings)


def _centres(count: int) -> NDArray[np.float32]:
    return ((np.arange(count) + 0.5) * 180 / count - 90).astype(np.float32)


CASES = {
    case.name: case
    for case in (
        Case("a", _centres(32), 64, mesh_size=3, latent_size=64, message_steps=4),
        Case("b", _centres(32), 64, mesh_size=4, latent_size=128, message_steps=8),
        Case("p0", np.linspace(-90, 90, 181, dtype=np.float32), 360, mesh_size=2, latent_size=256, message_steps=4),
    )
}
LARGE = {
    case.name: case
    for case in (
        Case("deg1", np.linspace(-90, 90, 181, dtype=np.float32), 360, 5, 512, 16, THIRTEEN, PROFILES),
        Case("deg025", np.linspace(-90, 90, 721, dtype=np.float32), 1440, 6, 512, 16, THIRTEEN, PROFILES),
    )
}
"""For accelerators."""
