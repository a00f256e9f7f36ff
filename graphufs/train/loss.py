"""The loss: a weighted mean of errors of normalised targets, with its diagnostics and its gradients.

    weights = LossWeights.build(channels, latitude, longitude, levels={"tmp": [97.8, 505.7, 998.8]})
    loss, diagnostics = loss_and_diagnostics(network, stepper, weights, inputs, targets, forcings)
    (loss, diagnostics), gradients = batch_loss_and_grads(network, stepper, weights, inputs, targets, forcings)
    diagnostics.by_variable["tmp"], diagnostics.by_level["tmp"]       # a scalar, [level]

For a variable v and a sample, l_v is the mean over time, level, latitude and longitude of
(y - target)^2 w_lat w_lev, both normalised; the sample's loss is sum_v W_v l_v, a sum, not a mean, over variables. The
loss of a batch is the mean of its samples', and so is its gradient (Lam et al. 2023, eq. 19). At level k of the K of v
the mean squared error is e_vk, the mean of (y - target)^2 w_lat, so that l_v = sum_k c_vk e_vk with
c_vk = w_lev_k f_vk / K, where f_vk is a factor for this channel, 1 unless given. Diagnostics are l_v and e_vk. The
number of target times decides the length of the rollout.

In the place of the squared error stands its size where a stage's loss is `mae`, and the score of an ensemble's members
(graphufs.train.ensemble.members) where it is `crps`, with that of the neighbourhoods' means where these have a weight.

What is diagnosed of the targets (graphufs.emulator.diagnosed) counts as further targets do, on levels of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from graphufs.config.training import StageLoss
from graphufs.emulator.diagnosed import Diagnosed
from graphufs.emulator.rollout import scan_steps
from graphufs.errors import UserError
from graphufs.graph.partition import Partition
from graphufs.grid.areas import quadrature_weights
from graphufs.model.channels import Arrays, ChannelMap
from graphufs.model.network import EdgeEmbeddings, GraphCast
from graphufs.model.one_step import Stepper
from graphufs.train.ensemble.members import Spread, crps, member_errors, neighbourhood_means, spread
from graphufs.train.loss_weights import level_weights

SQUARED = StageLoss()


class LossDiagnostics(NamedTuple):
    """What the loss is made of, for a sample [batch, ...] or the mean of a batch."""

    by_variable: dict[str, jax.Array]
    """l_v by target, before the weight of the variable."""
    by_level: dict[str, jax.Array]
    """e_vk by target, [..., level]: the mean squared error (or other loss) over the area at each level, in units of
    the normalised target, whatever the level's weight. 1 is as large as a usual change over a time step (for a target
    that is not an input: a usual departure from its mean). `LossWeights.parts` makes the parts of l_v of it."""
    spread: Spread | None = None
    """Of the members, where the loss is a score of them."""


class LossWeights(eqx.Module):
    """How much each error counts, by target."""

    areas: dict[str, jax.Array]
    """float32 [1, lat, 1] (or [level, lat, lon] where masked): each point's share of the area; at each level they sum,
    over all points, to 1."""
    levels: dict[str, jax.Array]
    """c_vk, float32 [level]."""
    variables: dict[str, jax.Array]
    """W_v."""
    masks: dict[str, jax.Array]
    """bool [level, lat, lon], False where there is nothing to score."""
    diagnosed: Diagnosed | None = None
    """What is made of the targets and counts as they do."""

    @staticmethod
    def build(
        channels: ChannelMap,
        latitude: np.ndarray,
        longitude: np.ndarray,
        *,
        levels: Mapping[str, Any] | None = None,
        variable_weights: Mapping[str, float] | None = None,
        channel_weights: Mapping[str, Sequence[float]] | None = None,
        parent_latitude: np.ndarray | None = None,
        weigh_latitudes: bool = True,
        masks: Mapping[str, np.ndarray] | None = None,
        diagnosed: Diagnosed | None = None,
    ) -> LossWeights:
        """Make the weights for a grid in degrees; for `parent_latitude` see `quadrature_weights`.

        `levels` are pressures by variable, whose levels then weigh proportionally; others have equal weights at theirs.
        Where `variable_weights` name no target it counts 1. `channel_weights` are factors [level] by target, in the
        order of its levels, on top of these; the others have 1. Nothing is normalised again: a factor of 2 doubles this
        channel's part of the loss and leaves all other parts as they are. `masks` are bool [level, lat, lon] by
        variable, False where it never exists: weight zero. The others' weights at a level still have mean 1, so that a
        variable does not count less for existing in few places. What is `diagnosed` has all these weights too, but for
        factors of channels.

        Raises
        ------
        UserError
            If a weight names no target, numbers of levels differ, or a channel's factor is negative or not finite.
        """
        targets = {name: channels.levels(name) for name in channels.target_variables}
        if diagnosed is not None:
            made = dict(zip(diagnosed.names, diagnosed.levels, strict=True))
            targets |= {name: max(1, len(pressures)) for name, pressures in made.items()}
            if levels is not None:
                levels = {**levels, **{name: pressures for name, pressures in made.items() if pressures}}
        for weights, known in ((variable_weights, targets), (channel_weights, channels.target_variables)):
            if unknown := sorted(set(weights or {}) - set(known)):
                raise UserError(f"loss weights are given for {', '.join(unknown)}; the targets are {', '.join(known)}")
        area = quadrature_weights(latitude, parent_latitude) if weigh_latitudes else np.ones(len(latitude))
        areas, shares, chosen = {}, {}, {}
        for name, count in targets.items():
            by_level = np.ones(count)
            if levels is not None and name in levels:
                by_level = level_weights(np.atleast_1d(levels[name]))
                if by_level.shape != (count,):
                    raise UserError(f"{name} has {count} levels, but {len(by_level)} level values are given")
            factors = _channel_factors(name, (channel_weights or {}).get(name), count)
            shares[name] = jnp.asarray(by_level * factors / count, jnp.float32)
            mask = np.ones((count, len(latitude), len(longitude)), bool)
            if masks is not None and name in masks:
                mask = np.broadcast_to(np.asarray(masks[name], bool), mask.shape)
            share = area[None, :, None] * mask
            total = share.sum(axis=(1, 2), keepdims=True)
            share = np.divide(share, total, where=total > 0, out=np.zeros(share.shape))
            if mask.all():
                share = share[:1, :, :1]  # the same at all levels and longitudes
            else:
                chosen[name] = jnp.asarray(mask)
            areas[name] = jnp.asarray(share, jnp.float32)
        return LossWeights(
            areas=areas,
            levels=shares,
            variables={name: jnp.float32((variable_weights or {}).get(name, 1.0)) for name in targets},
            masks=chosen,
            diagnosed=diagnosed,
        )

    def divided(self, partition: Partition) -> LossWeights:
        """Those of each part of the grid, `areas` and `masks` [part, level or 1, 1, point]; sums over parts are whole.

        Points that only pad a part count nothing.
        """

        def of_parts(field: jax.Array) -> Any:
            whole = np.broadcast_to(field, (*field.shape[:-2], *partition.grid_shape))
            return partition.stacked(whole)

        real = partition.real[:, None, None]
        areas = {name: jnp.asarray(of_parts(share) * real, jnp.float32) for name, share in self.areas.items()}
        masks = {name: jnp.asarray(of_parts(mask)) for name, mask in self.masks.items()}
        return replace(self, areas=areas, masks=masks)

    def errors(self, outputs: Arrays, targets: Arrays, kind: str = "mse") -> dict[str, jax.Array]:
        """e_vk of each sample, [batch, level], of normalised outputs and targets [batch, 1, level, lat, lon].

        The mean squared error, or the mean absolute one (`kind` mae).
        """
        size = jnp.abs if kind == "mae" else jnp.square
        return self.means({name: size(error) for name, error in self.differences(outputs, targets).items()})

    def observed(self, stepper: Stepper, *step: Any) -> tuple[Arrays, Arrays]:
        """What is compared after a step of a rollout (graphufs.emulator.rollout.Observe): outputs and targets."""
        outputs, prediction, inputs, targets = step
        wanted = stepper.normalize_targets(targets, inputs)
        if self.diagnosed is None:
            return outputs, wanted
        return {**outputs, **self.diagnosed(prediction)}, {**wanted, **self.diagnosed(targets)}

    def differences(self, outputs: Arrays, targets: Arrays) -> dict[str, jax.Array]:
        """Errors [batch, 1, level, lat, lon] by target; where there is nothing to score they are 0."""
        errors = {name: outputs[name] - targets[name] for name in self.areas}
        return {
            name: jnp.where(self.masks[name], error, 0.0) if name in self.masks else error
            for name, error in errors.items()
        }

    def means(self, fields: Arrays) -> dict[str, jax.Array]:
        """The mean over the area, [..., level], of fields [..., 1, level, lat, lon] by target."""
        return {name: (fields[name] * areas).sum(axis=(-4, -2, -1)) for name, areas in self.areas.items()}

    def parts(self, errors: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """c_vk e_vk of errors e_vk [..., level] by target: what each level has in l_v, which is their sum."""
        return {name: self.levels[name] * error for name, error in errors.items()}

    def combine(self, errors: Mapping[str, jax.Array]) -> tuple[jax.Array, LossDiagnostics]:
        """The loss sum_v W_v l_v of errors e_vk [..., level] by target, with what it is made of."""
        by_variable = {name: part.sum(axis=-1) for name, part in self.parts(errors).items()}
        loss = jnp.stack([self.variables[name] * value for name, value in by_variable.items()]).sum(axis=0)
        return loss, LossDiagnostics(by_variable, dict(errors))


def _channel_factors(name: str, factors: Sequence[float] | None, count: int) -> np.ndarray:
    values = np.ones(count) if factors is None else np.asarray(factors, np.float64)
    if values.shape != (count,):
        raise UserError(f"{name} has {count} levels, but {values.size} channel weights are given")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise UserError(f"the channel weights of {name} are {values.tolist()}; they must be finite and not negative")
    return values


def sample_losses(
    network: GraphCast,
    stepper: Stepper,
    weights: LossWeights,
    inputs: Arrays,
    targets: Arrays,
    forcings: Arrays,
    *,
    loss: StageLoss = SQUARED,
    noise: jax.Array | None = None,
    in_turn: bool = False,
    edges: EdgeEmbeddings | None = None,
    remat: bool | None = None,
) -> tuple[jax.Array, LossDiagnostics]:
    """Loss [batch] and diagnostics [batch, ...] of each sample, means over the steps of the rollout.

    Arrays are canonical, targets and forcings [batch, steps, ...]; for `edges` and `remat` see
    `graphufs.emulator.rollout.scan_steps`. `noise` is [batch, members, steps, channel] for the loss crps, and no other
    takes any; with `in_turn` members follow each other and are computed again for the gradient.

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

    wanted = {name: targets[name] for name in names}
    how: dict[str, Any] = {"steps": steps.pop(), "edges": edges, "remat": remat}
    if loss.kind == "crps":
        assert noise is not None
        fields = inputs, forcings, wanted

        def differ(*step: Any) -> dict[str, jax.Array]:
            return weights.differences(*weights.observed(stepper, *step))

        errors = member_errors(network, stepper, differ, fields, noise, in_turn=in_turn, **how)
        scores = weights.means({name: crps(error, loss.alpha) for name, error in errors.items()})
        if loss.smoothed_weight:
            for name, error in errors.items():
                means, shares = neighbourhood_means(error, weights.areas[name], loss.smoothed_points)
                scores[name] += loss.smoothed_weight * (crps(means, loss.alpha) * shares).sum(axis=(-4, -2, -1))
        seen = {name: spread(jax.lax.stop_gradient(error)) for name, error in errors.items()}
        parts = [weights.means({name: part[index] for name, part in seen.items()}) for index in range(4)]
        total, diagnostics = weights.combine(_over_steps(scores))
        return total, diagnostics._replace(spread=Spread(*map(_over_steps, parts)))

    def observe(*step: Any) -> dict[str, jax.Array]:
        return weights.errors(*weights.observed(stepper, *step), loss.kind)

    found = scan_steps(network, stepper, inputs, forcings, observe, wanted, **how)
    return weights.combine(_over_steps(found))


def _over_steps(errors: Arrays) -> dict[str, jax.Array]:
    return {name: error.mean(axis=0) for name, error in errors.items()}


def loss_and_diagnostics(
    network: GraphCast,
    stepper: Stepper,
    weights: LossWeights,
    inputs: Arrays,
    targets: Arrays,
    forcings: Arrays,
    **how: Any,
) -> tuple[jax.Array, LossDiagnostics]:
    """The batch's loss, a scalar, and its diagnostics: the means of `sample_losses`, called with the same `how`."""
    found = sample_losses(network, stepper, weights, inputs, targets, forcings, **how)
    mean: tuple[jax.Array, LossDiagnostics] = jax.tree.map(lambda values: values.mean(axis=0), found)
    return mean


def batch_loss_and_grads(
    network: GraphCast,
    stepper: Stepper,
    weights: LossWeights,
    inputs: Arrays,
    targets: Arrays,
    forcings: Arrays,
    *,
    loss: StageLoss = SQUARED,
    noise: jax.Array | None = None,
    in_turn: bool = False,
    device_batch_size: int | None = None,
    remat: bool | None = None,
    frozen: GraphCast | None = None,
) -> tuple[tuple[jax.Array, LossDiagnostics], GraphCast]:
    """((loss, diagnostics), gradients): means over the batch's samples; the loss is a scalar.

    With `frozen`, the tensors that do not learn, `network` is the rest of them, and so are the gradients.

    `device_batch_size` samples are computed together; memory grows with it. The others follow one after the other,
    their gradients are summed. For `loss`, `noise` and `in_turn` see `sample_losses`. What depends on parameters only
    is computed and differentiated once. None: one on a CPU, which is fastest with what fits its cache, and all
    elsewhere.

    Raises
    ------
    UserError
        If `device_batch_size` does not divide the batch.
    """
    batch = max(array.shape[0] for array in targets.values())
    size = device_batch_size or (1 if stepper.graph.arrangement.samples_in_turn else batch)
    if batch % size:
        raise UserError(f"device_batch_size is {size}, which does not divide the batch of {batch}")

    def whole(network: GraphCast) -> GraphCast:
        return network if frozen is None else eqx.combine(network, frozen)

    edges, pull_edges = jax.vjp(lambda network: stepper.embed_edges(whole(network)), network)

    def gradients(samples: tuple[Arrays, Arrays, Arrays, jax.Array | None]) -> Any:
        *arrays, noise = samples
        how: dict[str, Any] = {"loss": loss, "noise": noise, "in_turn": in_turn, "remat": remat}

        def mean_loss(network: GraphCast, edges: EdgeEmbeddings) -> tuple[jax.Array, LossDiagnostics]:
            return loss_and_diagnostics(whole(network), stepper, weights, *arrays, edges=edges, **how)

        return jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True)(network, edges)

    count = batch // size
    if count == 1:
        result, (direct, by_edges) = gradients((inputs, targets, forcings, noise))
    else:
        # arrays without a batch axis of their own belong to every sample
        leaves, tree = jax.tree.flatten((inputs, targets, forcings, noise))
        split = [leaf.reshape(count, size, *leaf.shape[1:]) for leaf in leaves if leaf.shape[0] == batch]

        def body(total: Any, chunk: list[jax.Array]) -> tuple[Any, None]:
            parts = iter(chunk)
            samples = jax.tree.unflatten(tree, [next(parts) if leaf.shape[0] == batch else leaf for leaf in leaves])
            return jax.tree.map(jnp.add, total, gradients(samples)), None

        # What `gradients` returns, spelled out: to ask JAX for it would trace the network twice.
        none = jnp.float32(0)
        levels = weights.levels
        of_members = None if noise is None else Spread(levels, levels, levels, levels)
        found = none, LossDiagnostics(dict.fromkeys(levels, none), levels, of_members)
        zeros = jax.tree.map(jnp.zeros_like, (found, (network, edges)))
        total, _ = jax.lax.scan(body, zeros, split)
        result, (direct, by_edges) = jax.tree.map(lambda leaf: leaf / count, total)
    return result, jax.tree.map(jnp.add, direct, pull_edges(by_edges)[0])
