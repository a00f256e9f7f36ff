"""GraphCast's network: encode the grid onto the mesh, process on the mesh, decode back to the grid.

    graph = build_graph(latitude, longitude, mesh_size=2)            # numpy, once
    arrays = GraphArrays.from_graph(graph, latent_size=256)          # device arrays, not parameters
    network = GraphCast.init(inputs=24, outputs=6, latent_size=256, message_steps=4, hidden_layers=1, key=key)
    y = jit(lambda network, arrays, x: network(x, arrays))(network, arrays, x)          # x [batch, grid, inputs]
    edges = network.embed_edges(arrays)                              # depends on the parameters only
    y = network(x, arrays, edges)                                    # as often as the parameters stay the same
    gradients = jax.grad(lambda network: (network(x, arrays) ** 2).sum())(network)      # a GraphCast of gradients
    state = optax.adamw(1e-3).init(network)                          # every leaf is a trainable float32 array

The module is its parameters and nothing else: every leaf of the pytree is trainable, so that optimizers, gradients
and checkpoints take it as it is. The graph is an argument. Formulas follow Lam et al. 2023
(doi:10.1126/science.adi2336), supplement 3; the arrangement is for speed: first layers are split by part of their
input (layers.MLP), what depends on parameters only is computed once (`embed_edges`), the grid is gone through in
blocks that fit the cache and are recomputed when differentiated (arrays.GraphArrays).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from graphufs.model.arrays import GraphArrays
from graphufs.model.exchange import added_up, reached
from graphufs.model.gpu_layers import made_again
from graphufs.model.kernels.lists import EdgeLists
from graphufs.model.kernels.messages import sums_of_messages
from graphufs.model.kernels.on_mesh import process
from graphufs.model.layers import MLP, for_fusion, randomize, with_bias, with_scale
from graphufs.model.mlp_parts import Part, bias_with_offset, embed_features, finish, layers_of, scale_sums
from graphufs.model.noise import conditioned, with_maps
from graphufs.model.rows import add_rows, add_static, add_to_each, take


class Encoder(eqx.Module):
    """Grid to mesh: embed grid, mesh and edges, send one message along each edge, update both."""

    embed_grid: MLP
    embed_mesh: MLP
    embed_edges: MLP
    edges: MLP
    mesh_nodes: MLP
    grid_nodes: MLP


class MessageStep(eqx.Module):
    """One step of messages on the mesh, with its own parameters."""

    edges: MLP
    nodes: MLP


class Processor(eqx.Module):
    """Message steps on the multimesh."""

    embed_edges: MLP
    steps: tuple[MessageStep, ...]


class Decoder(eqx.Module):
    """Mesh to grid: one message from each corner of the containing face, then the output.

    `mesh_nodes` changes nothing in the output. DeepMind's parameters have it and its optimizer decays it, so it is
    kept for exchange.
    """

    embed_edges: MLP
    edges: MLP
    grid_nodes: MLP
    mesh_nodes: MLP
    output: MLP


class EdgeEmbeddings(eqx.Module):
    """All that depends on the parameters and the graph only."""

    grid: jax.Array
    """[block, point, L], the grid features' share of the grid embedding's first layer; on GPUs with its bias."""
    mesh_nodes: jax.Array
    """[mesh, L], embedded mesh nodes."""
    grid2mesh: jax.Array
    """[block, edge, L], the edges' and receivers' share of the messages' first layer, and its bias."""
    mesh: jax.Array
    """[edge, L], embedded edges without the offset of their normalization."""
    mesh2grid: jax.Array
    """[block, 3 * point, L], the edges' share of the messages' first layer, but for the same offset."""


class GraphCast(eqx.Module):
    """The encode-process-decode network on one grid's normalised channels."""

    encoder: Encoder
    processor: Processor
    decoder: Decoder

    @staticmethod
    def init(
        *,
        inputs: int,
        outputs: int,
        latent_size: int,
        message_steps: int,
        hidden_layers: int,
        key: jax.Array,
        noise: int = 0,
    ) -> GraphCast:
        """Random parameters, distributed as in the reference.

        `inputs` and `outputs` are the channels of x and y, `latent_size` the width of all hidden layers and latent
        vectors, `message_steps` those on the mesh, `hidden_layers` those of each MLP; `key` is a scalar, a JAX random
        key. With `noise`, the number of its channels, there are maps of noise besides, zero at first.
        """
        size = latent_size

        def mlp(in_size: int, out_size: int = size, norm: bool = True) -> MLP:
            return MLP.zeros(in_size, size, out_size, hidden_layers, norm=norm)

        network = GraphCast(
            Encoder(
                embed_grid=mlp(inputs + 3),
                embed_mesh=mlp(inputs + 3),
                embed_edges=mlp(4),
                edges=mlp(3 * size),
                mesh_nodes=mlp(2 * size),
                grid_nodes=mlp(size),
            ),
            Processor(
                embed_edges=mlp(4),
                steps=tuple(MessageStep(edges=mlp(3 * size), nodes=mlp(2 * size)) for _ in range(message_steps)),
            ),
            Decoder(
                embed_edges=mlp(4),
                edges=mlp(3 * size),
                grid_nodes=mlp(2 * size),
                mesh_nodes=mlp(size),
                output=mlp(size, outputs, norm=False),
            ),
        )
        network = randomize(network, key)
        return with_maps(network, noise) if noise else network

    @property
    def latent_size(self) -> int:
        """The width of the latent vectors."""
        return self.encoder.embed_edges.linears[-1].weight.shape[1]

    @property
    def inputs(self) -> int:
        """The number of input channels."""
        return self.encoder.embed_grid.first.weight.shape[0] - 3

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        return self.decoder.output.linears[-1].weight.shape[1]

    def embed_edges(
        self, graph: GraphArrays, dtype: jax.typing.DTypeLike = jnp.float32, *, remat: bool | None = None
    ) -> EdgeEmbeddings:
        """Compute what depends on parameters and graph only, for use in many calls or rollout steps.

        `dtype` is that of the network's x, `remat` as in calling it.
        """
        size, encoder, decoder, how = self.latent_size, self.encoder, self.decoder, graph.arrangement
        # the mesh nodes have zeros where the grid has its input channels
        mesh_features = graph.mesh_features.astype(dtype)
        mesh_nodes = encoder.embed_mesh.finish(
            encoder.embed_mesh.part(mesh_features, self.inputs, arrangement=how), how
        )
        at_receivers = encoder.edges.part(mesh_nodes, 2 * size, arrangement=how)
        at_receivers = with_bias(at_receivers, bias_with_offset(encoder.edges, encoder.embed_edges.offset), how)
        at_receivers = reached(at_receivers, graph.to_grid)
        # float32, as in rows.take; edges that only pad a block have a receiver past the last
        at_receivers = at_receivers.astype(jnp.float32)

        def embed(block: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            grid, grid2mesh, receivers, mesh2grid = block
            to_mesh, to_grid = encoder.embed_edges, decoder.embed_edges
            at_grid = encoder.embed_grid.part(grid, self.inputs, arrangement=how)
            if for_fusion(how):  # once here, not for each sample; see _encode
                at_grid = with_bias(at_grid, encoder.embed_grid.first.bias, how)
            return (
                at_grid,
                embed_features(to_mesh, grid2mesh, how, (encoder.edges, 0, to_mesh.scale))
                + at_receivers.at[receivers].get(mode="clip").astype(dtype),
                embed_features(to_grid, mesh2grid, how, (decoder.edges, 0, to_grid.scale)),
            )

        mesh2grid_features = graph.mesh2grid_features.reshape(graph.blocks, -1, 4)
        grid_features, grid2mesh_features, mesh2grid_features, mesh_edge_features = (
            features.astype(dtype)
            for features in (graph.grid_features, graph.grid2mesh.features, mesh2grid_features, graph.mesh.features)
        )
        blocks = (grid_features, grid2mesh_features, graph.grid2mesh.receivers, mesh2grid_features)
        grid, grid2mesh, mesh2grid = _map_blocks(embed, blocks, remat)
        return EdgeEmbeddings(
            grid=grid,
            mesh_nodes=mesh_nodes,
            grid2mesh=grid2mesh,
            mesh=with_scale(
                embed_features(self.processor.embed_edges, mesh_edge_features, how),
                self.processor.embed_edges.scale,
                how,
            ),
            mesh2grid=mesh2grid,
        )

    def __call__(
        self,
        x: jax.Array,
        graph: GraphArrays,
        edges: EdgeEmbeddings | None = None,
        *,
        noise: jax.Array | None = None,
        remat: bool | None = None,
    ) -> jax.Array:
        """Apply the network: y [batch, grid, outputs], normalised, as precise as x.

        x is [batch, grid, inputs], normalised; float32 or bfloat16, which decides the precision of all activations.
        Sums of messages and what layer normalization computes are float32 inside in any case. `edges` are
        `embed_edges(graph, x.dtype)` where already known. `noise` is [batch, channel] (graphufs.model.noise), float32;
        None: none, also of a network that has maps of it. With `remat`, activations are computed again when
        differentiated instead of kept: those of each block of grid points, and those of each message step on the mesh.
        None: those of blocks, where there are several.
        """
        edges = self.embed_edges(graph, x.dtype, remat=remat) if edges is None else edges
        samples = x.shape[0]
        if samples > 1 and graph.fills_cache:

            def alone(sample: tuple[jax.Array, jax.Array | None]) -> jax.Array:
                x, noise = jax.tree.map(lambda values: values[None], sample)
                return self(x, graph, edges, noise=noise, remat=remat)[0]

            return jax.lax.map(alone, (x, noise))
        network = conditioned(self, noise)
        # [block, point * sample, channel]
        rows = x.swapaxes(0, 1).reshape(graph.blocks, -1, x.shape[-1])
        grid, mesh = network._encode(rows, samples, graph, edges, remat)
        mesh = network._process(mesh, samples, graph, edges, remat)
        y = network._decode(grid, mesh, samples, graph, edges, remat)
        return y.reshape(-1, samples, y.shape[-1]).swapaxes(0, 1)

    # In what follows the samples of a batch lie side by side: an array is a matrix of node * sample (or edge * sample)
    # rows to a layer, and one of node rows, each with all its samples, to a gather or a sum over edges. Biases, and
    # scales and offsets of normalizations, are applied to nodes where they may be, which are fewer than edges.

    def _encode(
        self, x: jax.Array, samples: int, graph: GraphArrays, edges: EdgeEmbeddings, remat: bool | None
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """Latent grid [block, point * sample, L] (and its share of the decoder's messages), mesh [mesh * sample, L].

        g = embed([x, grid features]);  m_e = MLP([embedded edge, g_sender, mesh_receiver]);
        mesh += MLP([mesh, sum of m_e over incoming e]);  g += MLP(g).
        """
        size, encoder, how = self.latent_size, self.encoder, graph.arrangement

        def messages(block: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], jax.Array]:
            x, at_grid, at_edges, senders, taken = block
            if for_fusion(how):
                after = [(encoder.edges, size, None)]
                grid, at_points = layers_of(encoder.embed_grid, [Part(x, 0)], at_grid, how, after=after)
            else:
                z = add_static(encoder.embed_grid.part(x, 0, arrangement=how), at_grid, how)
                grid = finish(encoder.embed_grid, z, encoder.embed_grid.first.bias, how)
                at_points = encoder.edges.part(grid, size, arrangement=how)
            if isinstance(senders, EdgeLists):
                message = sums_of_messages(
                    encoder.edges, at_points, None, at_edges, senders, samples, how, padded=graph.padded
                )
            else:

                def normal(at_points: jax.Array, at_edges: jax.Array) -> jax.Array:
                    at_senders = take(at_points, senders, samples, how, taken)
                    return encoder.edges.normal(add_static(at_senders, at_edges, how), how)

                message = (made_again(normal) if for_fusion(how) else normal)(at_points, at_edges)
            update = encoder.grid_nodes
            # with kernels, what the grid's rows are for the decoder's messages is made where the rows are
            after = [(self.decoder.edges, 2 * size, None)] if graph.lists is not None else []
            return layers_of(update, [Part(grid, 0)], update.first.bias, how, residual=True, after=after), message

        of_block = _remat(messages, graph.blocks, remat)

        def body(total: jax.Array, block: tuple[Any, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            grid, message = of_block(block[0])
            if graph.lists is not None:
                return total.at[:-samples].add(message), grid
            return add_rows(total, block[1], message, samples, how), grid

        senders: Any = graph.grid2mesh.senders if graph.lists is None else graph.lists[0]
        taken = graph.grid2mesh_of_senders
        blocks: Any = ((x, edges.grid, edges.grid2mesh, senders, taken), graph.grid2mesh.receivers)
        # one more node takes the messages of the edges that only pad a block
        total = jnp.zeros(((graph.reached_nodes + 1) * samples, size), jnp.float32)
        if graph.blocks == 1:
            total, grid = body(total, jax.tree.map(lambda a: a[0], blocks))
            grid = tuple(rows[None] for rows in grid)
        else:
            total, grid = jax.lax.scan(body, total, blocks)
        mesh, update = edges.mesh_nodes, encoder.mesh_nodes
        total = added_up(total[:-samples], graph.to_grid)
        total = scale_sums(encoder.edges, total, graph.grid2mesh_degrees, how).astype(x.dtype)
        at_total, at_mesh = update.part(total, size, arrangement=how), update.part(mesh, 0, arrangement=how)
        mesh_update = update.finish(add_static(at_total, at_mesh, how), how)
        return grid, add_static(mesh_update, mesh, how)

    def _process(
        self, mesh: jax.Array, samples: int, graph: GraphArrays, edges: EdgeEmbeddings, remat: bool | None
    ) -> jax.Array:
        """m_e = MLP([edge, mesh_sender, mesh_receiver]);  mesh += MLP([mesh, sum of m_e]);  edge += m_e; repeated."""
        size, senders, receivers = self.latent_size, graph.mesh.senders, graph.mesh.receivers
        how = graph.arrangement

        def send(
            step: MessageStep, mesh: jax.Array, edge: jax.Array, offset: jax.Array
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            at_nodes = step.edges.part(mesh, size, arrangement=how)
            at_nodes = with_bias(at_nodes, bias_with_offset(step.edges, offset), how)
            at_senders = take(reached(at_nodes, graph.to_mesh), senders, samples, how)
            at_receivers = take(step.edges.part(mesh, 2 * size, arrangement=how), receivers, samples, how)
            at_ends = at_senders + at_receivers
            message = finish(step.edges, at_ends, step.edges.part(edge, 0, arrangement=how), how, affine=False)
            total = add_rows(jnp.zeros(mesh.shape, jnp.float32), receivers, message, samples, how)
            total = scale_sums(step.edges, total, graph.mesh_degrees, how).astype(mesh.dtype)
            parts = step.nodes.part(mesh, 0, arrangement=how), step.nodes.part(total, size, arrangement=how)
            mesh = finish(step.nodes, parts[0], step.nodes.first.bias, how, other=parts[1], residual=mesh)
            # after the last step the edges are not read, and the compiler drops them
            edge = add_static(with_scale(message, step.edges.scale, how), edge, how)
            return mesh, edge, offset + step.edges.offset

        edge, offset = edges.mesh, self.processor.embed_edges.offset
        if graph.lists is not None and self.processor.steps[0].edges.scale.ndim == 1:
            steps = [(step.edges, step.nodes) for step in self.processor.steps]
            return process(steps, mesh, (edge + offset).astype(mesh.dtype), graph, samples, remat)
        for step in self.processor.steps:
            mesh, edge, offset = (jax.checkpoint(send) if remat else send)(step, mesh, edge, offset)
        return mesh

    def _decode(
        self,
        grid: tuple[jax.Array, ...],
        mesh: jax.Array,
        samples: int,
        graph: GraphArrays,
        edges: EdgeEmbeddings,
        remat: bool | None,
    ) -> jax.Array:
        """m_e = MLP([embedded edge, mesh_sender, g]);  g += MLP([g, sum of its three m_e]);  y = MLP(g)."""
        size, decoder, update, how = self.latent_size, self.decoder, self.decoder.grid_nodes, graph.arrangement
        at_mesh = decoder.edges.part(mesh, size, arrangement=how)
        at_mesh = with_bias(at_mesh, bias_with_offset(decoder.edges, decoder.embed_edges.offset), how)
        at_mesh = reached(at_mesh, graph.to_grid)
        bias = bias_with_offset(update, 3 * decoder.edges.offset, size)

        def decode(block: tuple[Any, ...]) -> jax.Array:
            (grid, *at_grid), at_edges, senders = block
            if isinstance(senders, EdgeLists):
                total = sums_of_messages(
                    decoder.edges, at_grid[0], at_mesh, at_edges, senders, samples, how, padded=graph.padded
                )
            else:

                def sums(at_mesh: jax.Array, at_edges: jax.Array, at_grid: jax.Array) -> jax.Array:
                    at_corners = take(at_mesh, senders.reshape(-1), samples, how)
                    at_ends = add_static(at_corners, at_edges, how).reshape(3, *at_grid.shape)
                    at_ends = add_to_each(at_ends, at_grid, how).reshape(-1, size)
                    return decoder.edges.sum_of_normals(at_ends, 3, how)

                at_grid = decoder.edges.part(grid, 2 * size, arrangement=how)
                total = (made_again(sums) if for_fusion(how) else sums)(at_mesh, at_edges, at_grid)
            parts = Part(grid, 0), Part(total, size, decoder.edges.scale)
            if bias.ndim == 2:  # each sample's own
                z, other = (update.part(*part, arrangement=how) for part in parts)
                z = with_bias(z, bias, how)
                grid = finish(update, z, jnp.zeros_like(bias[0]), how, other=other, residual=grid)
            else:
                (grid,) = layers_of(update, parts, bias, how, residual=True)
            if for_fusion(how):
                return layers_of(decoder.output, [Part(grid, 0)], decoder.output.first.bias, how)[0]
            return decoder.output(grid, how)

        senders = graph.mesh2grid_senders if graph.lists is None else graph.lists[1]
        return _map_blocks(decode, (grid, edges.mesh2grid, senders), remat)


def _remat(function: Callable[[Any], Any], blocks: int, remat: bool | None) -> Callable[[Any], Any]:
    """`function` so that it is computed again when differentiated, where `remat` (see GraphCast's call) says so."""
    return jax.checkpoint(function) if (blocks > 1 if remat is None else remat) else function


def _map_blocks(function: Callable[[Any], Any], blocks: Any, remat: bool | None) -> Any:
    """Apply `function` to each block in turn; to a single block directly."""
    count = jax.tree.leaves(blocks)[0].shape[0]
    function = _remat(function, count, remat)
    if count == 1:
        return jax.tree.map(lambda a: a[None], function(jax.tree.map(lambda a: a[0], blocks)))
    return jax.lax.map(function, blocks)
