"""The loss: weighted mean squared error of normalised targets, with its diagnostics and its gradients.

    weights = LossWeights.build(channels, latitude, longitude, levels={"tmp": [97.8, 505.7, 998.8]})
    loss, diagnostics = loss_and_diagnostics(network, stepper, weights, inputs, targets, forcings)
    (loss, diagnostics), gradients = batch_loss_and_grads(network, stepper, weights, inputs, targets, forcings)

For a variable v and a sample, l_v is the mean over time, level, latitude and longitude of
(y - target)^2 w_lat w_lev, both normalised; the sample's loss is sum_v W_v l_v, a sum, not a mean, over variables. The
loss of a batch is the mean of its samples', and so is its gradient. Diagnostics are the l_v. (Lam et al. 2023, eq. 19.)
The number of target times decides the length of the rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from graphufs.errors import UserError
from graphufs.forecast.rollout import scan_steps
from graphufs.model.channels import Arrays, ChannelMap
from graphufs.model.network import EdgeEmbeddings, GraphCast
from graphufs.model.normalized import Stepper


def latitude_weights(latitude: np.ndarray, parent_latitude: np.ndarray | None = None) -> np.ndarray:
    """The area of each latitude's cells, float64 [lat], with mean 1.

    Cells reach half-way (in angle) to the neighbouring latitudes, and to the pole where it is less than a spacing
    away; the area is proportional to the difference of the sines of the bounds. On uniform grids with or without
    points at the poles this is what GraphCast uses; it holds for Gaussian grids too.

    Parameters
    ----------
    latitude : degrees, ascending or descending
    parent_latitude : the latitudes `latitude` was picked from, if it is every n-th of a finer grid. Each point then
        stands for the fine grid's cell, as the picked latitudes do not lie symmetrically about the equator
    """
    latitude = np.asarray(latitude, np.float64)
    if parent_latitude is not None and len(parent_latitude) != len(latitude):
        parent = np.asarray(parent_latitude, np.float64)
        index = np.abs(parent[None, :] - latitude[:, None]).argmin(axis=1)
        if np.abs(parent[index] - latitude).max() > 1e-3 or len(set(index)) != len(index):
            raise UserError("the latitudes are not among the parent grid's; weights cannot be taken from it")
        weights = latitude_weights(parent)[index]
        return weights / weights.mean()
    steps = np.diff(latitude)
    if len(latitude) < 2 or not ((steps > 0).all() or (steps < 0).all()):
        raise UserError(f"latitudes must ascend or descend, at least two of them; got {latitude}")
    bounds = np.concatenate(
        [
            [_outer_bound(latitude[0], -steps[0])],
            (latitude[1:] + latitude[:-1]) / 2,
            [_outer_bound(latitude[-1], steps[-1])],
        ]
    )
    weights = np.abs(np.diff(np.sin(np.deg2rad(bounds))))
    return weights / weights.mean()


def _outer_bound(latitude: float, step: float) -> float:
    """The pole if it is less than a step away, else half a step outward."""
    return float(np.sign(step) * 90.0) if abs(latitude + step) > 90.0 else latitude + step / 2


def level_weights(levels: np.ndarray) -> np.ndarray:
    """P / mean(p), float64 [level]."""
    levels = np.asarray(levels, np.float64)
    return levels / levels.mean()


class LossWeights(eqx.Module):
    """How much each error counts.

    Attributes
    ----------
    points : float32 [level, lat, 1] (or [level, lat, lon] where masked) by target; sums, over all points, to 1
    variables : W_v by target
    masks : bool [level, lat, lon] by target, False where there is nothing to score
    """

    points: dict[str, jax.Array]
    variables: dict[str, jax.Array]
    masks: dict[str, jax.Array]

    @staticmethod
    def build(
        channels: ChannelMap,
        latitude: np.ndarray,
        longitude: np.ndarray,
        *,
        levels: Mapping[str, Any] | None = None,
        variable_weights: Mapping[str, float] | None = None,
        parent_latitude: np.ndarray | None = None,
        weigh_latitudes: bool = True,
        weigh_levels: bool = True,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> LossWeights:
        """Make the weights.

        Parameters
        ----------
        latitude, longitude : degrees
        levels : pressures by variable; a variable not named has equal weights at its levels
        variable_weights : by target; the others count 1
        parent_latitude : see `latitude_weights`
        masks : bool [level, lat, lon] by variable, False where it never exists: weight zero. The others' weights at a
            level still have mean 1, so that a variable does not count less for existing in few places.

        Raises
        ------
        UserError
            If a weight names no target, or numbers of levels differ.
        """
        targets = channels.target_variables
        if unknown := sorted(set(variable_weights or {}) - set(targets)):
            raise UserError(f"loss weights are given for {', '.join(unknown)}; the targets are {', '.join(targets)}")
        area = latitude_weights(latitude, parent_latitude) if weigh_latitudes else np.ones(len(latitude))
        points, chosen = {}, {}
        for name in targets:
            count = channels.levels(name)
            weights = np.ones(count)
            if weigh_levels and levels is not None and name in levels:
                weights = level_weights(np.atleast_1d(levels[name]))
                if weights.shape != (count,):
                    raise UserError(f"{name} has {count} levels, but {len(weights)} level values are given")
            mask = np.ones((count, len(latitude), len(longitude)), bool)
            if masks is not None and name in masks:
                mask = np.broadcast_to(np.asarray(masks[name], bool), mask.shape)
            share = area[None, :, None] * mask
            total = share.sum(axis=(1, 2), keepdims=True)
            share = weights[:, None, None] / count * np.divide(share, total, where=total > 0, out=np.zeros(share.shape))
            if mask.all():
                share = share[:, :, :1]  # the same at all longitudes
            else:
                chosen[name] = jnp.asarray(mask)
            points[name] = jnp.asarray(share, jnp.float32)
        return LossWeights(
            points=points,
            variables={name: jnp.float32((variable_weights or {}).get(name, 1.0)) for name in targets},
            masks=chosen,
        )

    def errors(self, outputs: Arrays, targets: Arrays) -> dict[str, jax.Array]:
        """l_v of each sample, [batch], of normalised outputs and targets [batch, 1, level, lat, lon]."""
        errors = {}
        for name, weights in self.points.items():
            difference = outputs[name] - targets[name]
            if name in self.masks:
                difference = jnp.where(self.masks[name], difference, 0.0)
            errors[name] = (difference * difference * weights).sum(axis=(1, 2, 3, 4))
        return errors


def sample_losses(
    network: GraphCast,
    stepper: Stepper,
    weights: LossWeights,
    inputs: Arrays,
    targets: Arrays,
    forcings: Arrays,
    *,
    edges: EdgeEmbeddings | None = None,
    remat: bool | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss [batch] and diagnostics [batch] by target of each sample, means over the steps of the rollout.

    Parameters
    ----------
    inputs, targets, forcings : canonical arrays; targets and forcings [batch, steps, ...]
    edges, remat : see `graphufs.forecast.rollout.rollout`

    Raises
    ------
    UserError
        If a target is missing or the numbers of steps differ.
    """
    names = stepper.channels.target_variables
    if missing := sorted(set(names) - set(targets)):
        raise UserError(f"{', '.join(missing)} missing from the targets")
    steps = {targets[name].shape[1] for name in names}
    if len(steps) != 1:
        raise UserError(f"the targets have different numbers of times: {sorted(steps)}")

    def observe(outputs: Any, prediction: Any, inputs: Any, targets: Any) -> dict[str, jax.Array]:
        return weights.errors(outputs, stepper.normalize_targets(targets, inputs))

    wanted = {name: targets[name] for name in names}
    errors, _ = scan_steps(
        network, stepper, inputs, forcings, observe, wanted, steps=steps.pop(), edges=edges, remat=remat
    )
    diagnostics = {name: error.mean(axis=0) for name, error in errors.items()}
    loss = jnp.stack([weights.variables[name] * error for name, error in diagnostics.items()]).sum(axis=0)
    return loss, diagnostics


def loss_and_diagnostics(
    network: GraphCast,
    stepper: Stepper,
    weights: LossWeights,
    inputs: Arrays,
    targets: Arrays,
    forcings: Arrays,
    *,
    edges: EdgeEmbeddings | None = None,
    remat: bool | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The batch's loss and diagnostics by target: the means of `sample_losses`."""
    loss, diagnostics = sample_losses(network, stepper, weights, inputs, targets, forcings, edges=edges, remat=remat)
    return loss.mean(), {name: error.mean() for name, error in diagnostics.items()}


def batch_loss_and_grads(
    network: GraphCast,
    stepper: Stepper,
    weights: LossWeights,
    inputs: Arrays,
    targets: Arrays,
    forcings: Arrays,
    *,
    samples_at_once: int | None = None,
    remat: bool | None = None,
) -> tuple[tuple[jax.Array, dict[str, jax.Array]], GraphCast]:
    """((loss, diagnostics), gradients): means over the batch's samples.

    Parameters
    ----------
    samples_at_once : how many samples are computed together; memory grows with it. The others follow one after the
        other, their gradients are summed. What depends on parameters only is computed and differentiated once. None:
        one on a CPU, which is fastest with what fits its cache, and all elsewhere

    Raises
    ------
    UserError
        If `samples_at_once` does not divide the batch.
    """
    batch = max(array.shape[0] for array in targets.values())
    at_once = samples_at_once or (1 if jax.default_backend() == "cpu" else batch)
    if batch % at_once:
        raise UserError(f"samples_at_once is {at_once}, which does not divide the batch of {batch}")
    edges, pull_edges = jax.vjp(stepper.embed_edges, network)

    def gradients(samples: tuple[Arrays, Arrays, Arrays]) -> Any:
        def loss(network: GraphCast, edges: EdgeEmbeddings) -> tuple[jax.Array, dict[str, jax.Array]]:
            return loss_and_diagnostics(network, stepper, weights, *samples, edges=edges, remat=remat)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(network, edges)

    count = batch // at_once
    if count == 1:
        result, (direct, by_edges) = gradients((inputs, targets, forcings))
    else:
        # arrays without a batch axis of their own belong to every sample
        leaves, tree = jax.tree.flatten((inputs, targets, forcings))
        split = [leaf.reshape(count, at_once, *leaf.shape[1:]) for leaf in leaves if leaf.shape[0] == batch]

        def body(total: Any, chunk: list[jax.Array]) -> tuple[Any, None]:
            parts = iter(chunk)
            samples = jax.tree.unflatten(tree, [next(parts) if leaf.shape[0] == batch else leaf for leaf in leaves])
            return jax.tree.map(jnp.add, total, gradients(samples)), None

        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(gradients, jax.tree.unflatten(tree, [leaf[:at_once] for leaf in leaves])),
        )
        total, _ = jax.lax.scan(body, zeros, split)
        result, (direct, by_edges) = jax.tree.map(lambda leaf: leaf / count, total)
    return result, jax.tree.map(jnp.add, direct, pull_edges(by_edges)[0])
