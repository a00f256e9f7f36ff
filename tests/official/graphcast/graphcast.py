"""A look-alike of DeepMind's GraphCast: its interface, and its mathematics written out plainly.

Layers meet the whole concatenation of their inputs, edges stay in the order they are found in, nothing is split,
sorted, cached or blocked. The formulas are those of Lam et al. 2023, supplement 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import haiku
import jax
import jax.numpy as jnp
import numpy as np
import xarray
from graphcast import grid_mesh_connectivity, icosahedral_mesh

from graphufs.graph import features
from graphufs.graph.build import Graph, assemble_graph
from graphufs.graph.grid2mesh import grid2mesh_edges, query_radius
from graphufs.graph.multimesh import multimesh_edges

ATMOSPHERIC = ("temperature", "geopotential", "u_component_of_wind", "v_component_of_wind", "specific_humidity")


@dataclass(frozen=True)
class TaskConfig:
    input_variables: tuple[str, ...]
    target_variables: tuple[str, ...]
    forcing_variables: tuple[str, ...]
    pressure_levels: tuple[int, ...]
    input_duration: str


@dataclass(frozen=True)
class ModelConfig:
    resolution: float
    mesh_size: int
    latent_size: int
    gnn_msg_steps: int
    hidden_layers: int
    radius_query_fraction_edge_length: float
    mesh2grid_edge_normalization_factor: float | None = None


@dataclass(frozen=True)
class CheckPoint:
    params: dict[str, Any]
    model_config: ModelConfig
    task_config: TaskConfig
    description: str
    license: str


class GraphCast:
    def __init__(self, model_config: ModelConfig, task_config: TaskConfig) -> None:
        self.config, self.task = model_config, task_config
        with_levels = sum(name in ATMOSPHERIC for name in task_config.target_variables)
        surface = len(task_config.target_variables) - with_levels
        self.outputs = surface + with_levels * len(task_config.pressure_levels)

    def __call__(
        self,
        inputs: xarray.Dataset,
        targets_template: xarray.Dataset,
        forcings: xarray.Dataset,
        is_training: bool = False,
    ) -> xarray.Dataset:
        graph = self._graph(inputs.lat.values, inputs.lon.values)
        x = jnp.concatenate([_stack(inputs), _stack(forcings)], axis=-1)
        y = self._network(x, graph)
        assert y.shape[-1] == self.outputs, "the configuration asks for other outputs than the parameters make"
        return _unstack(y, targets_template)

    def _graph(self, latitude: np.ndarray, longitude: np.ndarray) -> Graph:
        meshes = icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(splits=self.config.mesh_size)
        radius = query_radius(meshes[-1], self.config.radius_query_fraction_edge_length)
        xyz = features.positions(*features.spherical(*features.grid_points(latitude, longitude)))
        grid, mesh = grid_mesh_connectivity.in_mesh_triangle_indices(
            grid_latitude=latitude, grid_longitude=longitude, mesh=meshes[-1]
        )
        return assemble_graph(
            latitude,
            longitude,
            meshes[-1].vertices,
            grid2mesh=grid2mesh_edges(xyz, meshes[-1].vertices, float(radius)),
            mesh=multimesh_edges(meshes),
            mesh2grid=(mesh, grid),
            mesh2grid_normalization=self.config.mesh2grid_edge_normalization_factor,
        )

    def _network(self, x: jax.Array, graph: Graph) -> jax.Array:
        """From x [grid, batch, channel] to y [grid, batch, output]."""
        batch, mesh_nodes, grid_nodes = x.shape[1], len(graph.mesh_features), x.shape[0]

        def repeat(features: np.ndarray) -> jax.Array:
            return jnp.repeat(jnp.asarray(features)[:, None], batch, axis=1)

        def total(messages: jax.Array, receivers: np.ndarray, nodes: int) -> jax.Array:
            return jnp.zeros((nodes, *messages.shape[1:])).at[receivers].add(messages)

        gnn, edges = "grid2mesh_gnn", graph.grid2mesh
        grid = _mlp(gnn, "encoder_nodes_grid_nodes", x, repeat(graph.grid_features))
        zeros = jnp.zeros((mesh_nodes, *x.shape[1:]))
        mesh = _mlp(gnn, "encoder_nodes_mesh_nodes", zeros, repeat(graph.mesh_features))
        edge = _mlp(gnn, "encoder_edges_grid2mesh", repeat(edges.features))
        message = _mlp(gnn, "processor_edges_0_grid2mesh", edge, grid[edges.senders], mesh[edges.receivers])
        received = total(message, edges.receivers, mesh_nodes)
        mesh = mesh + _mlp(gnn, "processor_nodes_0_mesh_nodes", mesh, received)
        grid = grid + _mlp(gnn, "processor_nodes_0_grid_nodes", grid)

        gnn, edges = "mesh_gnn", graph.mesh
        edge = _mlp(gnn, "encoder_edges_mesh", repeat(edges.features))
        for step in range(self.config.gnn_msg_steps):
            message = _mlp(gnn, f"processor_edges_{step}_mesh", edge, mesh[edges.senders], mesh[edges.receivers])
            received = total(message, edges.receivers, mesh_nodes)
            mesh = mesh + _mlp(gnn, f"processor_nodes_{step}_mesh_nodes", mesh, received)
            edge = edge + message

        gnn, edges = "mesh2grid_gnn", graph.mesh2grid
        edge = _mlp(gnn, "encoder_edges_mesh2grid", repeat(edges.features))
        message = _mlp(gnn, "processor_edges_0_mesh2grid", edge, mesh[edges.senders], grid[edges.receivers])
        received = total(message, edges.receivers, grid_nodes)
        grid = grid + _mlp(gnn, "processor_nodes_0_grid_nodes", grid, received)
        return _mlp(gnn, "decoder_nodes_grid_nodes", grid)


def _mlp(gnn: str, part: str, *inputs: jax.Array) -> jax.Array:
    parameters, prefix = haiku.parameters(), f"{gnn}/~_networks_builder/{part}"
    x, layer = jnp.concatenate(inputs, axis=-1), 0
    while (linear := parameters.get(f"{prefix}_mlp/~/linear_{layer}")) is not None:
        x = x / (1 + jnp.exp(-x)) if layer else x
        x = jnp.matmul(x, linear["w"], precision="highest") + linear["b"]
        layer += 1
    norm = parameters.get(f"{prefix}_layer_norm")
    if norm is None:
        return x
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * norm["scale"] + norm["offset"]


def _stack(dataset: xarray.Dataset) -> jax.Array:
    """All variables, sorted by name, as [grid, batch, channel]."""
    sizes, columns = dataset.sizes, []
    for name in sorted(dataset.data_vars):
        variable = dataset[name].variable
        rest = [dim for dim in variable.dims if dim not in ("batch", "lat", "lon")]
        array = jnp.transpose(
            variable.data, [variable.dims.index(dim) for dim in ("lat", "lon", "batch", *rest) if dim in variable.dims]
        )
        shape = [sizes[dim] if dim in variable.dims else 1 for dim in ("lat", "lon", "batch")]
        array = array.reshape(*shape, -1)
        wide = (sizes["lat"], sizes["lon"], sizes["batch"], array.shape[-1])
        columns.append(jnp.broadcast_to(array, wide).reshape(-1, *wide[2:]))
    return jnp.concatenate(columns, axis=-1)


def _unstack(y: jax.Array, template: xarray.Dataset) -> xarray.Dataset:
    grid, arrays, start = (template.sizes["lat"], template.sizes["lon"]), {}, 0
    for name in sorted(template.data_vars):
        dims = [dim for dim in template[name].dims if dim not in ("batch", "lat", "lon")]
        shape = [template.sizes[dim] for dim in dims]
        stop = start + int(np.prod(shape))
        array = y[..., start:stop].reshape(*grid, y.shape[1], *shape)
        axes = ["lat", "lon", "batch", *dims]
        order = [axes.index(dim) for dim in template[name].dims]
        arrays[name] = (template[name].dims, array.transpose(order))
        start = stop
    return xarray.Dataset(arrays)
