"""A small world for tests: 6 x 12 points, mesh 1, one variable with levels, one static, one forcing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphufs.graph import Graph, build_graph
from graphufs.model.channels import ChannelMap
from graphufs.model.network import GraphCast
from graphufs.model.noise import with_maps
from graphufs.model.one_step import Stepper

LATITUDE, LONGITUDE = np.linspace(75, -75, 6), np.arange(12) * 30.0
LEVELS = {"tmp": 2}
CHANNELS = ChannelMap.build(
    ["tmp", "pressfc", "land_static", "day_progress_sin"],
    ["tmp", "pressfc", "rain"],
    ["day_progress_sin"],
    levels=LEVELS,
    input_frames=2,
    static={"land_static"},
)
STATISTICS: dict[str, dict[str, np.ndarray]] = {
    "mean": {"tmp": np.array([250.0, 280.0]), "pressfc": np.array([1e5]), "rain": np.array([3.0])},
    "std": {"tmp": np.array([20.0, 10.0]), "pressfc": np.array([1e3]), "rain": np.array([2.0])},
    "diffs_std": {"tmp": np.array([2.0, 3.0]), "pressfc": np.array([150.0])},
}


def graph() -> Graph:
    return build_graph(LATITUDE, LONGITUDE, mesh_size=1)


def network(seed: int = 0, hidden_layers: int = 1, message_steps: int = 1) -> GraphCast:
    return GraphCast.init(
        inputs=CHANNELS.input_size,
        outputs=CHANNELS.output_size,
        latent_size=8,
        message_steps=message_steps,
        hidden_layers=hidden_layers,
        key=jax.random.key(seed),
    )


def random_maps(seed: int = 5, message_steps: int = 2, channels: int = 32) -> GraphCast:
    """With maps of noise that change scales by a fifth."""
    random = np.random.default_rng(seed)
    leaves, tree = jax.tree.flatten(with_maps(network(message_steps=message_steps), channels))
    filled = [
        jnp.asarray(random.normal(size=leaf.shape) * 0.2 / channels**0.5, jnp.float32)
        if leaf.shape[:1] == (channels,)
        else leaf
        for leaf in leaves
    ]
    return jax.tree.unflatten(tree, filled)


def stepper(**options: Any) -> Stepper:
    return Stepper.build(CHANNELS, graph(), latent_size=8, **{**STATISTICS, **options})


def samples(batch: int = 2, steps: int = 3, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Inputs, targets and forcings of plausible size."""
    random = np.random.default_rng(seed)

    def field(name: str, *shape: int) -> jax.Array:
        levels = LEVELS.get(name, 1)
        mean = STATISTICS["mean"].get(name, np.zeros(levels))[:, None, None]
        std = STATISTICS["std"].get(name, np.ones(levels))[:, None, None]
        return jnp.asarray(mean + std * random.normal(size=(*shape, levels, 6, 12)), jnp.float32)

    def progress(times: int) -> jax.Array:
        return jnp.asarray(random.normal(size=(batch, times, 1, 1, 12)), jnp.float32)

    inputs = {"tmp": field("tmp", batch, 2), "pressfc": field("pressfc", batch, 2), "day_progress_sin": progress(2)}
    inputs["land_static"] = field("land_static", 1, 1)
    targets = {name: field(name, batch, steps) for name in CHANNELS.target_variables}
    return inputs, targets, {"day_progress_sin": progress(steps)}
