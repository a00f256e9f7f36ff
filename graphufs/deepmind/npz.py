"""Exchange of parameters with DeepMind's GraphCast: names, and the npz checkpoint file.

DeepMind's parameters are named "<gnn>/~_networks_builder/<part>_mlp/~/linear_<k>" with w [in, out] and b, and
"<gnn>/~_networks_builder/<part>_layer_norm" with scale and offset. Here a parameter's key is "module:name".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from graphufs.errors import UserError
from graphufs.model.layers import MLP, LayerNorm, Linear
from graphufs.model.network import Decoder, Encoder, GraphCast, MessageStep, Processor
from graphufs.storage.atomic import replace_file
from graphufs.storage.npz import read_npz

NOISE = "_layer_norm_noise:w"
"""What the name of a map of noise ends with (graphufs.model.noise); DeepMind's GraphCast has no such parameter."""
_ENCODER, _PROCESSOR, _DECODER = "grid2mesh_gnn", "mesh_gnn", "mesh2grid_gnn"


def to_deepmind(network: GraphCast) -> dict[str, np.ndarray]:
    """The parameters by DeepMind's names, "module:name": w [in, out]; b, scale and offset [out]."""
    return {key: np.asarray(value) for prefix, mlp in _parts(network) for key, value in _mlp_to(prefix, mlp)}


def from_deepmind(parameters: Mapping[str, Any]) -> GraphCast:
    """A network from parameters by DeepMind's names; sizes and numbers of layers and steps are theirs.

    Raises
    ------
    UserError
        If a parameter is missing or one has no place in the network.
    """
    used: set[str] = set()

    def mlp(gnn: str, part: str) -> MLP:
        return _mlp_from(_prefix(gnn, part), parameters, used)

    steps = 0
    while f"{_prefix(_PROCESSOR, f'processor_edges_{steps}_mesh')}_mlp/~/linear_0:w" in parameters:
        steps += 1
    if not steps:
        raise UserError("the parameters hold no message step on the mesh (mesh_gnn/.../processor_edges_0_mesh)")
    network = GraphCast(
        Encoder(**{name: mlp(_ENCODER, part) for name, part in _ENCODER_PARTS.items()}),
        Processor(
            embed_edges=mlp(_PROCESSOR, "encoder_edges_mesh"),
            steps=tuple(
                MessageStep(
                    edges=mlp(_PROCESSOR, f"processor_edges_{k}_mesh"),
                    nodes=mlp(_PROCESSOR, f"processor_nodes_{k}_mesh_nodes"),
                )
                for k in range(steps)
            ),
        ),
        Decoder(**{name: mlp(_DECODER, part) for name, part in _DECODER_PARTS.items()}),
    )
    if unknown := sorted(set(parameters) - used):
        raise UserError(f"the parameters {', '.join(unknown)} have no place in a GraphCast network")
    return network


@dataclass(frozen=True)
class Checkpoint:
    """DeepMind's checkpoint file: parameters by name, the two configurations, and free text."""

    parameters: dict[str, np.ndarray]
    model_config: dict[str, Any] = field(default_factory=dict)
    task_config: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    license: str = ""


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint that DeepMind's `checkpoint.dump` or `write_checkpoint` wrote.

    Raises
    ------
    UserError
        If the file is missing, torn, or no such checkpoint.
    """
    flat = read_npz(path)
    parameters = {key.removeprefix("params:"): value for key, value in flat.items() if key.startswith("params:")}
    if not parameters:
        raise UserError(f"{os.fspath(path)} holds no parameters named params:...; it is not a GraphCast checkpoint")
    for key, values in parameters.items():
        _check_parameter(f"{os.fspath(path)}: the parameter {key}", values, 2 if key.endswith(":w") else 1)
    texts = {name: str(flat[name]) if name in flat else "" for name in ("description", "license")}
    return Checkpoint(parameters, _config(flat, "model_config"), _config(flat, "task_config"), **texts)


def _check_parameter(what: str, values: np.ndarray, dimensions: int) -> None:
    if values.dtype.kind != "f":
        raise UserError(f"{what} is of {values.dtype}, no floating-point numbers")
    if values.ndim != dimensions or not values.size:
        raise UserError(f"{what} has the shape {values.shape}; wanted are {dimensions} dimensions, none of them empty")
    with np.errstate(over="ignore"):
        whole = np.isfinite(values.astype(np.float32)).all()
    if not whole:
        raise UserError(f"{what} has values that are no finite numbers of float32; the file is damaged")


def require_shapes(network: GraphCast, wanted: GraphCast, path: str | os.PathLike[str]) -> None:
    """See that each parameter of a file's network has the shape that one of its sizes has.

    Raises
    ------
    UserError
        If one has not.
    """
    shapes = [
        {key: tuple(value.shape) for prefix, mlp in _parts(one) for key, value in _mlp_to(prefix, mlp)}
        for one in (network, wanted)
    ]
    for key, shape in shapes[1].items():
        if shapes[0].get(key) != shape:
            raise UserError(
                f"{os.fspath(path)}: the parameter {key} has the shape {shapes[0].get(key)}, and in a network of these "
                f"sizes it has {shape}; the file is damaged"
            )


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint in DeepMind's format; None fields are omitted, as there."""
    flat: dict[str, Any] = {f"params:{key}": value for key, value in checkpoint.parameters.items()}
    for name, config in (("model_config", checkpoint.model_config), ("task_config", checkpoint.task_config)):
        for key, value in config.items():
            if isinstance(value, list | tuple):
                flat |= {f"{name}:{key}:{index}": item for index, item in enumerate(value)}
            elif value is not None:
                flat[f"{name}:{key}"] = value
    flat |= {"description": checkpoint.description, "license": checkpoint.license}
    with replace_file(Path(path)) as temporary, open(temporary, "wb") as file:  # a name would get the ending .npz
        np.savez(file, **flat)


_ENCODER_PARTS = {
    "embed_grid": "encoder_nodes_grid_nodes",
    "embed_mesh": "encoder_nodes_mesh_nodes",
    "embed_edges": "encoder_edges_grid2mesh",
    "edges": "processor_edges_0_grid2mesh",
    "mesh_nodes": "processor_nodes_0_mesh_nodes",
    "grid_nodes": "processor_nodes_0_grid_nodes",
}
_DECODER_PARTS = {
    "embed_edges": "encoder_edges_mesh2grid",
    "edges": "processor_edges_0_mesh2grid",
    "grid_nodes": "processor_nodes_0_grid_nodes",
    "mesh_nodes": "processor_nodes_0_mesh_nodes",
    "output": "decoder_nodes_grid_nodes",
}


def _prefix(gnn: str, part: str) -> str:
    return f"{gnn}/~_networks_builder/{part}"


def _parts(network: GraphCast) -> Iterator[tuple[str, MLP]]:
    for name, part in _ENCODER_PARTS.items():
        yield _prefix(_ENCODER, part), getattr(network.encoder, name)
    yield _prefix(_PROCESSOR, "encoder_edges_mesh"), network.processor.embed_edges
    for k, step in enumerate(network.processor.steps):
        yield _prefix(_PROCESSOR, f"processor_edges_{k}_mesh"), step.edges
        yield _prefix(_PROCESSOR, f"processor_nodes_{k}_mesh_nodes"), step.nodes
    for name, part in _DECODER_PARTS.items():
        yield _prefix(_DECODER, part), getattr(network.decoder, name)


def _mlp_to(prefix: str, mlp: MLP) -> Iterator[tuple[str, Any]]:
    for k, linear in enumerate(mlp.linears):
        yield f"{prefix}_mlp/~/linear_{k}:w", linear.weight
        yield f"{prefix}_mlp/~/linear_{k}:b", linear.bias
    if mlp.norm is not None:
        yield f"{prefix}_layer_norm:scale", mlp.norm.scale
        yield f"{prefix}_layer_norm:offset", mlp.norm.offset
        if mlp.norm.noise is not None:  # ours alone: a file in DeepMind's format has none
            yield f"{prefix}{NOISE}", mlp.norm.noise


def _mlp_from(prefix: str, parameters: Mapping[str, Any], used: set[str]) -> MLP:
    def take(key: str) -> Any:
        if key not in parameters:
            raise UserError(
                f"the parameter {key} is missing; these are not the parameters of a complete GraphCast network"
            )
        used.add(key)
        return jnp.asarray(parameters[key], jnp.float32)

    linears: list[Linear] = []
    while not linears or f"{prefix}_mlp/~/linear_{len(linears)}:w" in parameters:
        layer = f"{prefix}_mlp/~/linear_{len(linears)}"
        linears.append(Linear(take(f"{layer}:w"), take(f"{layer}:b")))
    norm = None
    if not prefix.endswith("decoder_nodes_grid_nodes"):
        noise = take(f"{prefix}{NOISE}") if f"{prefix}{NOISE}" in parameters else None
        norm = LayerNorm(take(f"{prefix}_layer_norm:scale"), take(f"{prefix}_layer_norm:offset"), noise)
    return MLP(tuple(linears), norm)


def _config(flat: Mapping[str, np.ndarray], name: str) -> dict[str, Any]:
    """The fields of a configuration; those with an index are tuples."""
    config: dict[str, Any] = {}
    for key in (key for key in flat if key.startswith(f"{name}:")):
        parts = key.split(":")
        if flat[key].size != 1 or (len(parts) == 3 and not parts[2].isdecimal()) or len(parts) > 3:
            raise UserError(f"{key} is no value of a configuration, as DeepMind writes it; the file is damaged")
        if len(parts) == 2:
            config[parts[1]] = flat[key].item()
        else:
            config.setdefault(parts[1], {})[int(parts[2])] = flat[key].item()
    return {
        key: tuple(value[index] for index in sorted(value)) if isinstance(value, dict) else value
        for key, value in config.items()
    }
