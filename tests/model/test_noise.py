"""Networks conditioned on noise: against every formula written out, on CPUs and for GPUs, alone and side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.arrangement import CPU, GPU, Arrangement
from graphufs.model.arrays import GraphArrays
from graphufs.model.compile import jit
from graphufs.model.layers import MLP
from graphufs.model.network import GraphCast
from graphufs.model.noise import conditioned, has_learnt_noise, noise_channels, with_maps, without_maps
from tests.support.small_model import CHANNELS, graph, network, random_maps

Z, STEPS = 32, 2
APPLY = jit(lambda network, arrays, x, noise: network(x, arrays, noise=noise))
ARRANGEMENTS = {"CPU": CPU, "GPU": GPU, "kernels": replace(GPU, kernels="interpreted")}


def deterministic() -> GraphCast:
    return network(message_steps=STEPS)


def draw(*shape: int, seed: int = 1) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X, NOISE = draw(3, 72, CHANNELS.input_size), draw(3, Z, seed=2)


def arrays(arrangement: Arrangement, blocks: int = 2) -> GraphArrays:
    return GraphArrays.from_graph(graph(), latent_size=8, blocks=blocks, arrangement=arrangement)


def mlp(part: MLP, z: jax.Array, *inputs: Any) -> jax.Array:
    x = jnp.concatenate(inputs, axis=-1)
    for layer in part.linears[:-1]:
        x = jax.nn.swish(x @ layer.weight + layer.bias)
    x = x @ part.linears[-1].weight + part.linears[-1].bias
    if part.norm is None:
        return x
    change = jnp.zeros(2 * x.shape[1]) if part.norm.noise is None else z @ part.norm.noise
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * (part.norm.scale + change[: x.shape[1]]) + part.norm.offset + change[x.shape[1] :]


def plain(net: GraphCast, x: jax.Array, z: jax.Array) -> jax.Array:
    """One sample, as the paper's formulas have it."""
    g, e, p, d = graph(), net.encoder, net.processor, net.decoder
    grid = mlp(e.embed_grid, z, x, g.grid_features)
    mesh = mlp(e.embed_mesh, z, jnp.zeros((len(g.mesh_features), x.shape[1])), g.mesh_features)
    edges, at = g.grid2mesh, mlp(e.embed_edges, z, g.grid2mesh.features)
    message = mlp(e.edges, z, at, grid[edges.senders], mesh[edges.receivers])
    mesh = mesh + mlp(e.mesh_nodes, z, mesh, jnp.zeros_like(mesh).at[edges.receivers].add(message))
    grid = grid + mlp(e.grid_nodes, z, grid)
    edges, at = g.mesh, mlp(p.embed_edges, z, g.mesh.features)
    for step in p.steps:
        message = mlp(step.edges, z, at, mesh[edges.senders], mesh[edges.receivers])
        mesh = mesh + mlp(step.nodes, z, mesh, jnp.zeros_like(mesh).at[edges.receivers].add(message))
        at = at + message
    edges, at = g.mesh2grid, mlp(d.embed_edges, z, g.mesh2grid.features)
    message = mlp(d.edges, z, at, mesh[edges.senders], grid[edges.receivers])
    grid = grid + mlp(d.grid_nodes, z, grid, jnp.zeros_like(grid).at[edges.receivers].add(message))
    return mlp(d.output, z, grid)


def plain_batch(net: GraphCast, x: jax.Array, noise: jax.Array) -> jax.Array:
    return jax.vmap(lambda one, z: plain(net, one, z))(x, noise)


def test_six_normalizations_and_two_a_step_have_maps_and_the_parameters_stay_what_they_were() -> None:
    net = with_maps(deterministic(), Z)
    maps = [leaf for leaf in jax.tree.leaves(net) if leaf.shape == (Z, 16)]
    assert len(maps) == 6 + 2 * STEPS and not any(leaf.any() for leaf in maps)
    assert (noise_channels(net), noise_channels(deterministic())) == (Z, 0)
    assert not has_learnt_noise(net) and has_learnt_noise(random_maps())
    made = GraphCast.init(
        inputs=CHANNELS.input_size, outputs=CHANNELS.output_size, latent_size=8, message_steps=STEPS, hidden_layers=1,
        key=jax.random.key(0), noise=Z,
    )  # fmt: skip
    for one, other in ((made, net), (without_maps(made), deterministic())):
        assert str(jax.tree.structure(one)) == str(jax.tree.structure(other))
        assert all((a == b).all() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("name", ["CPU", pytest.param("GPU", marks=pytest.mark.long)])
def test_with_maps_of_zeros_any_noise_gives_the_bits_of_the_deterministic_network(name: str) -> None:
    net, where = with_maps(deterministic(), Z), arrays(ARRANGEMENTS[name])
    expected = APPLY(deterministic(), where, X[:1], None)
    for noise in (None, NOISE[:1], 100 * NOISE[1:2]):
        np.testing.assert_array_equal(APPLY(net, where, X[:1], noise), expected)
    # side by side they equal each other bit for bit, and the deterministic network to rounding
    together = APPLY(net, where, X, NOISE)
    np.testing.assert_array_equal(together, APPLY(net, where, X, 100 * NOISE))
    np.testing.assert_allclose(together, APPLY(deterministic(), where, X, None), atol=1e-6 * np.abs(together).max())


@pytest.mark.parametrize(
    "name", [pytest.param("CPU", marks=pytest.mark.long), "GPU", pytest.param("kernels", marks=pytest.mark.long)]
)
def test_values_and_all_gradients_are_those_of_the_formulas_for_samples_side_by_side(name: str) -> None:
    net, where, direction = random_maps(), arrays(ARRANGEMENTS[name]), draw(3, 72, CHANNELS.output_size, seed=3)

    def gradients(apply: Any) -> Any:
        return jit(jax.grad(lambda net, noise: (apply(net, noise) * direction).sum(), argnums=(0, 1)))(net, NOISE)

    expected = jit(plain_batch)(net, X, NOISE)
    assert np.abs(expected - APPLY(net, where, X, None)).max() > 0.05 * np.abs(expected).max()
    np.testing.assert_allclose(APPLY(net, where, X, NOISE), expected, atol=1e-5 * np.abs(expected).max())
    found = gradients(lambda net, noise: net(X, where, noise=noise))
    by_formula = gradients(lambda net, noise: plain_batch(net, X, noise))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(by_formula), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(np.abs(b).max(), 1))


@pytest.mark.parametrize("name", [pytest.param("CPU", marks=pytest.mark.long), "GPU"])
def test_samples_of_other_noise_do_not_see_each_other(name: str) -> None:
    net, where = random_maps(), arrays(ARRANGEMENTS[name])
    together = APPLY(net, where, X, NOISE)
    for sample in range(3):
        alone = APPLY(net, where, X[sample : sample + 1], NOISE[sample : sample + 1])[0]
        np.testing.assert_allclose(alone, together[sample], atol=1e-5 * np.abs(alone).max())


def test_in_turn_samples_keep_their_noise() -> None:
    together, in_turn = arrays(CPU), replace(arrays(CPU), fills_cache=True)
    expected = APPLY(random_maps(), together, X, NOISE)
    np.testing.assert_allclose(APPLY(random_maps(), in_turn, X, NOISE), expected, atol=1e-5)


@pytest.mark.long
def test_in_bfloat16_scales_and_offsets_are_made_in_float32() -> None:
    changed = conditioned(random_maps(), NOISE)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(changed))
    exact = APPLY(random_maps(), arrays(GPU), X, NOISE)
    for name in ("CPU", "GPU"):
        rounded = APPLY(random_maps(), arrays(ARRANGEMENTS[name]), X.astype(jnp.bfloat16), NOISE)
        assert rounded.dtype == jnp.bfloat16
        np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=0.05 * np.abs(exact).max())
