"""One time step in physical units: normalise, apply the network, add its output to the last state.

    channels = ChannelMap.build(inputs, targets, forcings, levels={"tmp": 3}, input_frames=2, static={"land_static"})
    stepper = Stepper.build(channels, graph, mean=..., std=..., diffs_std=..., latent_size=256)
    network = GraphCast.init(inputs=channels.input_size, outputs=channels.output_size, ..., key=key)
    predict = jit(lambda network, stepper, inputs, forcings: stepper(network, inputs, forcings))  # model.compile.jit
    prediction = predict(network, stepper, inputs, forcings)       # dict of [batch, 1, level, lat, lon]
    edges = network.embed_edges(stepper.graph)                     # once for many steps with the same parameters
    prediction = stepper(network, inputs, forcings, edges)

`inputs` and `forcings` are dicts of canonical arrays [batch, time, level, lat, lon] in physical units (an axis of
length 1 stands for all); `forcings` hold the target time. `network` is the pytree of parameters, `stepper` a pytree of
everything else; both are arguments of jitted functions, and gradients are taken of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from graphufs.errors import UserError
from graphufs.graph.build import Graph
from graphufs.graph.partition import Partition
from graphufs.model.arrangement import Arrangement
from graphufs.model.arrays import GraphArrays
from graphufs.model.channels import Arrays, ChannelMap
from graphufs.model.network import EdgeEmbeddings, GraphCast


class Stepper(eqx.Module):
    """Everything but the parameters that a time step needs.

    With m, s mean and standard deviation by variable and level, and d the standard deviation of differences over a
    time step, an input x is seen by the network as (x - m)/s; a target that is also an input is predicted as
    last input + d y, any other target as m + s y, with y the network's output. A variable without a statistic is
    taken as it is. (GraphCast's InputsAndResiduals.)

    The grid's shape is (latitudes, longitudes); statistics are float32 [level] by variable.
    """

    channels: ChannelMap = eqx.field(static=True)
    grid_shape: tuple[int, int] = eqx.field(static=True)
    graph: GraphArrays
    mean: dict[str, jax.Array]
    std: dict[str, jax.Array]
    diffs_std: dict[str, jax.Array]
    masks: dict[str, jax.Array]
    """Bool [level, lat, lon] by variable, False where the variable never exists (an ocean variable on land). There
    inputs are 0 after normalisation and predictions keep what the last input holds (NaN), or are NaN. A NaN anywhere
    else is bad data and spreads, so that it is noticed."""
    precision: Literal["float32", "bfloat16"] = eqx.field(static=True, default="float32")
    """Of the network's activations. Parameters, statistics, normalised inputs and outputs, what is added to the last
    input, and the loss are float32 always; so are the gradients."""
    remat_blocks: bool | None = eqx.field(static=True, default=None)
    """Whether a block's activations are computed again for the gradient, see GraphCast's call."""

    @staticmethod
    def build(
        channels: ChannelMap,
        graph: Graph | Partition,
        *,
        mean: Mapping[str, np.ndarray],
        std: Mapping[str, np.ndarray],
        diffs_std: Mapping[str, np.ndarray],
        latent_size: int,
        masks: Mapping[str, np.ndarray] | None = None,
        blocks: int | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
        remat_blocks: bool | None = None,
        arrangement: Arrangement | None = None,
    ) -> Stepper:
        """Bring graph and statistics onto the device.

        Statistics are [level] (or a scalar) by variable, such as those of a Statistics; masks are bool [level, lat,
        lon], for variables that do not exist everywhere; `blocks` and `arrangement` are as in GraphArrays.from_graph.
        Of a partition, the arrays of graph and masks have an axis of parts before the others.

        Raises
        ------
        UserError
            If a statistic or mask does not fit its variable, or a standard deviation is not positive.
        """
        names = {*channels.input_variables, *channels.forcing_variables, *channels.target_variables}
        residual = set(channels.input_variables) & set(channels.target_variables)
        scales = {
            kind: {
                name: jnp.asarray(_levels(kind, name, values[name], channels.levels(name)), jnp.float32)
                for name in sorted(needed & set(values))
            }
            for kind, values, needed in (
                ("mean", mean, names),
                ("std", std, names),
                ("diffs_std", diffs_std, residual),
            )
        }
        chosen = {name: np.asarray(mask, bool) for name, mask in sorted((masks or {}).items()) if name in names}
        for name, mask in chosen.items():
            if mask.shape != (wanted := (channels.levels(name), *graph.grid_shape)):
                raise UserError(f"the mask of {name} has the shape {mask.shape}; wanted is {wanted}")
        chosen = {name: mask for name, mask in chosen.items() if not mask.all()}
        if isinstance(graph, Partition):
            shape = graph.graphs[0].grid_shape
            arrays = GraphArrays.of_parts(graph, latent_size=latent_size, blocks=blocks, arrangement=arrangement)
            chosen = {name: graph.stacked(mask) for name, mask in chosen.items()}
        else:
            shape = graph.grid_shape
            arrays = GraphArrays.from_graph(graph, latent_size=latent_size, blocks=blocks, arrangement=arrangement)
        return Stepper(
            channels=channels,
            grid_shape=shape,
            graph=arrays,
            masks={name: jnp.asarray(mask) for name, mask in chosen.items()},
            precision=precision,
            remat_blocks=remat_blocks,
            **scales,
        )

    def __call__(
        self,
        network: GraphCast,
        inputs: Arrays,
        forcings: Arrays,
        edges: EdgeEmbeddings | None = None,
        noise: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Predict the state one time step after the last input, [batch, 1, level, lat, lon] by target.

        `noise` is [batch, channel], for a network conditioned on it.
        """
        return self.to_physical(self.apply(network, inputs, forcings, edges, noise), inputs)

    def apply(
        self,
        network: GraphCast,
        inputs: Arrays,
        forcings: Arrays,
        edges: EdgeEmbeddings | None = None,
        noise: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """The network's output as it is, normalised, float32 [batch, 1, level, lat, lon] by target."""
        x = self.stack(inputs, forcings).astype(self.precision)
        y = network(x, self.graph, edges, noise=noise, remat=self.remat_blocks)
        return self.channels.unstack(y.astype(jnp.float32), self.grid_shape)

    def embed_edges(self, network: GraphCast) -> EdgeEmbeddings:
        """What depends on the parameters only, in this precision, for many steps with the same ones."""
        return network.embed_edges(self.graph, self.precision, remat=self.remat_blocks)

    def stack(self, inputs: Arrays, forcings: Arrays) -> jax.Array:
        """What the network reads: normalised channels [batch, grid, channel]."""
        return self.channels.stack(self._normalize(inputs), self._normalize(forcings), self.grid_shape)

    def to_physical(self, outputs: Arrays, inputs: Arrays) -> dict[str, jax.Array]:
        """Predictions [batch, 1, ...] in physical units from the network's outputs and inputs [batch, time, ...]."""
        predictions = {}
        for name, y in outputs.items():
            if name in inputs:
                predictions[name] = inputs[name][:, -1:] + y * _scale(self.diffs_std, name, 1.0)
            else:
                prediction = y * _scale(self.std, name, 1.0) + _scale(self.mean, name, 0.0)
                mask = self.masks.get(name)
                predictions[name] = prediction if mask is None else jnp.where(mask, prediction, jnp.nan)
        return predictions

    def normalize_targets(self, targets: Arrays, inputs: Arrays) -> dict[str, jax.Array]:
        """What the network should put out: the inverse of `to_physical`; masked points are NaN."""
        return {
            name: (targets[name] - inputs[name][:, -1:]) / _scale(self.diffs_std, name, 1.0)
            if name in inputs
            else (targets[name] - _scale(self.mean, name, 0.0)) / _scale(self.std, name, 1.0)
            for name in self.channels.target_variables
        }

    def _normalize(self, arrays: Arrays) -> dict[str, jax.Array]:
        normal = {}
        for name, values in arrays.items():
            values = (values - _scale(self.mean, name, 0.0)) / _scale(self.std, name, 1.0)
            mask = self.masks.get(name)
            normal[name] = values if mask is None else jnp.where(mask, values, 0.0)
        return normal


def _scale(statistics: Mapping[str, jax.Array], name: str, default: float) -> jax.Array | float:
    """A variable's statistic, shaped to go with [batch, time, level, lat, lon]."""
    return statistics[name][:, None, None] if name in statistics else default


def _levels(kind: str, name: str, values: np.ndarray, levels: int) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, np.float64))
    if values.shape not in ((levels,), (1,)):
        raise UserError(f"the {kind} of {name} has {values.shape} values, but the variable has {levels} levels")
    if not np.isfinite(values).all() or (kind != "mean" and (values <= 0).any()):
        raise UserError(
            f"the {kind} of {name} is {values}; statistics must be finite and standard deviations positive. "
            "A variable that never changes cannot be scaled: leave it out"
        )
    return np.broadcast_to(values, (levels,))
