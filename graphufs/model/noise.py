"""Noise that makes a network's members: numbers z of a sample, the same at all points, that change its normalizations.

    network = GraphCast.init(..., noise=32)                     # or with_maps(network, 32)
    y = network(x, arrays, noise=z)                             # x [batch, grid, inputs], z [batch, 32]

With scale g and offset o of a normalization, learnt as ever, and its map C [32, 2 L], without bias,

    [dg, do] = z C;   y = xhat * (g + dg) + (o + do).

As z knows nothing of space, one draw changes the whole globe at once, and scale and offset stay the same at all points
of a sample: they may still be applied after sums, or folded into the next matrix (Price et al. 2025, arXiv:2506.10772).
With C = 0, where training begins, the network is the deterministic one for every z. Not conditioned is what depends on
parameters only and is computed once for all samples, see GraphCast.embed_edges.
"""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from graphufs.model.layers import LayerNorm

Network = TypeVar("Network", bound=eqx.Module)


def with_maps(network: Network, channels: int) -> Network:
    """A GraphCast that has maps of noise of so many channels, all zeros, in its 6 + 2 K normalizations."""
    norms = _to_condition(network)
    maps = [LayerNorm(norm.scale, norm.offset, jnp.zeros((channels, 2 * norm.scale.size))) for norm in norms]
    made: Network = eqx.tree_at(_to_condition, network, maps)
    return made


def _to_condition(network: Any) -> list[LayerNorm]:
    encoder, decoder = network.encoder, network.decoder
    steps = [mlp for step in network.processor.steps for mlp in (step.edges, step.nodes)]
    of_grid = encoder.embed_grid, encoder.edges, encoder.mesh_nodes, encoder.grid_nodes
    return [mlp.norm for mlp in (*of_grid, *steps, decoder.edges, decoder.grid_nodes)]


def conditioned(network: Network, noise: jax.Array | None) -> Network:
    """The network with scales and offsets as noise z [batch, channels] makes them.

    They are [batch, L], and [L] for one sample, as without noise. None is no noise: as if z were 0.
    """

    def change(part: object) -> object:
        if not isinstance(part, LayerNorm) or part.noise is None:
            return part
        if noise is None:
            return LayerNorm(part.scale, part.offset)
        by_scale, by_offset = jnp.split(jnp.dot(noise, part.noise, precision=jax.lax.Precision.HIGHEST), 2, axis=1)
        if len(noise) == 1:
            by_scale, by_offset = by_scale[0], by_offset[0]
        return LayerNorm(part.scale + by_scale, part.offset + by_offset)

    changed: Network = jax.tree.map(change, network, is_leaf=_is_norm)
    return changed


def without_maps(network: Network) -> Network:
    """The deterministic network that this is without noise."""
    return conditioned(network, None)


def noise_channels(network: eqx.Module) -> int:
    """How many numbers make the noise of a network; 0 of a deterministic one."""
    return next((len(one) for one in _maps(network)), 0)


def has_learnt_noise(network: eqx.Module) -> bool:
    """Whether noise changes anything: a map is not all zeros."""
    return any(np.any(np.asarray(one)) for one in _maps(network))


def _maps(network: eqx.Module) -> list[jax.Array]:
    norms = [part for part in jax.tree.leaves(network, is_leaf=_is_norm) if isinstance(part, LayerNorm)]
    return [norm.noise for norm in norms if norm.noise is not None]


def _is_norm(part: object) -> bool:
    return isinstance(part, LayerNorm)
