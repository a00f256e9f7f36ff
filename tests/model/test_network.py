"""The network: its parameters, its independence of blocks and batches, and what compiled programs hold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graphufs.errors import UserError
from graphufs.graph import build_graph
from graphufs.model.arrays import GraphArrays
from graphufs.model.compile import jit
from graphufs.model.network import GraphCast
from tests.support.rounding import assert_equal_to_rounding, of_network
from tests.support.small_model import CHANNELS, graph, network

APPLY = jit(lambda network, arrays, x: network(x, arrays))
ROUNDING = of_network(8, 1, CHANNELS.input_size)


def channels(batch: int, points: int = 72) -> jax.Array:
    values = np.random.default_rng(0).normal(size=(batch, points, CHANNELS.input_size))
    return jnp.asarray(values, jnp.float32)


def test_every_leaf_is_a_trainable_float_array() -> None:
    leaves = jax.tree.leaves(network())
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in leaves)
    moments = jax.tree.leaves(optax.adamw(1e-3).init(network()))
    assert sum(leaf.size for leaf in moments) == 2 * sum(leaf.size for leaf in leaves) + 1


def test_the_prototypes_network_has_the_published_number_of_parameters_for_its_channels() -> None:
    sizes = GraphCast.init(
        inputs=29, outputs=6, latent_size=256, message_steps=4, hidden_layers=1, key=jax.random.key(0)
    )
    mlp = lambda inputs: inputs * 256 + 256 + 256 * 256 + 256 + 2 * 256  # noqa: E731
    expected = 2 * mlp(32) + 3 * mlp(4) + 6 * mlp(768) + 6 * mlp(512) + 2 * mlp(256) + (256 * 257 + 256 * 6 + 6)
    assert sum(leaf.size for leaf in jax.tree.leaves(sizes)) == expected
    assert (sizes.inputs, sizes.outputs, sizes.latent_size) == (29, 6, 256)


def test_equal_keys_give_equal_parameters_and_others_do_not() -> None:
    same = jax.tree.map(lambda a, b: bool((a == b).all()), network(1), network(1))
    assert all(jax.tree.leaves(same))
    assert (network(1).decoder.output.first.weight != network(2).decoder.output.first.weight).any()


def test_blocks_change_nothing() -> None:
    x, arrays = channels(2), GraphArrays.from_graph(graph(), latent_size=8, blocks=4)
    assert (np.asarray(arrays.grid2mesh.receivers) == 42).any()  # edges that only pad a block
    whole = APPLY(network(), GraphArrays.from_graph(graph(), latent_size=8, blocks=1), x)
    assert_equal_to_rounding(APPLY(network(), arrays, x), whole, ROUNDING)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    arrays, x = GraphArrays.from_graph(graph(), latent_size=8), channels(2)
    together = APPLY(network(), arrays, x)
    for sample in range(2):
        assert_equal_to_rounding(APPLY(network(), arrays, x[sample : sample + 1])[0], together[sample], ROUNDING)


def test_embeddings_computed_before_give_the_same_output() -> None:
    arrays, x, net = GraphArrays.from_graph(graph(), latent_size=8), channels(2), network()
    edges = jit(lambda network: network.embed_edges(arrays))(net)
    with_edges = jit(lambda *args: args[0](*args[1:]))(net, x, arrays, edges)
    assert_equal_to_rounding(with_edges, APPLY(net, arrays, x), ROUNDING)


def test_every_input_point_reaches_the_output_of_its_neighbours() -> None:
    arrays, x = GraphArrays.from_graph(graph(), latent_size=8), channels(1)
    changed = APPLY(network(), arrays, x.at[0, 30].add(1.0)) - APPLY(network(), arrays, x)
    assert (np.abs(changed[0]).max(axis=-1) > 0).mean() > 0.2


def test_a_large_grid_is_cut_into_blocks_that_divide_it() -> None:
    large = build_graph(90 - (np.arange(96) + 0.5) * 180 / 96, np.arange(192) * 1.875, mesh_size=2)
    arrays = GraphArrays.from_graph(large, latent_size=256)
    assert arrays.blocks > 1 and arrays.blocks * arrays.grid_features.shape[1] == 96 * 192
    assert arrays.mesh2grid_senders.shape == (arrays.blocks, 3, 96 * 192 // arrays.blocks)
    with pytest.raises(UserError, match="does not divide"):
        GraphArrays.from_graph(large, latent_size=256, blocks=7)


def test_the_graph_is_no_constant_of_the_compiled_program() -> None:
    arrays, x = GraphArrays.from_graph(graph(), latent_size=8), channels(1)
    text = APPLY.lower(network(), arrays, x).as_text()
    assert max(len(line) for line in text.splitlines() if "stablehlo.constant" in line) < 300
