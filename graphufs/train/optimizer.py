"""Learning rate and optimizer of a stage, and which tensors learn.

Patterns of an experiment (training.freeze, training.learning_rate_factors) are of the tensors' names in our
checkpoints, without their prefix: `processor.steps.3.edges.linears.0.weight`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import equinox as eqx
import jax
import optax

from graphufs.config.training import LearningRate, Optimizer
from graphufs.errors import UserError
from graphufs.model.network import GraphCast


def learning_rate(settings: LearningRate, updates: int) -> optax.Schedule:
    """The learning rate by update (counted from 0 within the stage).

    `linear` rises (or falls) from `start` to `peak` over all `updates`; `cosine` rises linearly from `start` to
    `peak` over `warmup_updates`, then falls along half a cosine to `end`; `constant` stays at `peak` after its warm-up.
    """
    if settings.schedule == "linear":
        return optax.linear_schedule(settings.start, settings.peak, updates)
    warmup = optax.linear_schedule(settings.start, settings.peak, settings.warmup_updates)
    if settings.schedule == "constant":
        after: optax.Schedule = optax.constant_schedule(settings.peak)
    else:
        after = optax.cosine_decay_schedule(
            settings.peak, max(updates - settings.warmup_updates, 1), alpha=settings.end / settings.peak
        )
    if settings.warmup_updates == 0:
        return after
    return optax.join_schedules([warmup, after], [settings.warmup_updates])


def optimizer(settings: Optimizer, rate: optax.Schedule, norm: jax.Array | None = None) -> optax.GradientTransformation:
    """AdamW (decoupled weight decay on all parameters) after clipping by the global norm.

    The structure of its state does not depend on the settings, so that stages can hand it on; nor on whether the
    gradient's norm is given, with which it may be applied to a part of the parameters. Rate and norm are scalars.
    """
    most = settings.clip
    if norm is None:
        clip = optax.identity() if most is None else optax.clip_by_global_norm(most)
        adamw = optax.adamw(rate, b1=settings.b1, b2=settings.b2, eps=settings.eps, weight_decay=settings.weight_decay)
        return optax.chain(clip, adamw)
    # in parts, as kernels cannot be made of what optax.adamw does with a rate that is an array
    return optax.chain(
        optax.identity() if most is None else _clip_by_given_norm(most, norm),
        optax.chain(
            optax.scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps),
            optax.add_decayed_weights(settings.weight_decay),
            _scale_by_rate(rate),
        ),
    )


def _clip_by_given_norm(most: float, norm: jax.Array) -> optax.GradientTransformation:
    return optax.stateless_with_tree_map(lambda g, _: jax.lax.select(norm < most, g, g / norm * most))


def _scale_by_rate(rate: optax.Schedule) -> optax.GradientTransformation:
    """As optax.scale_by_learning_rate of a schedule."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scaled = jax.tree.map(lambda update: -rate(state.count) * update, updates)
        return scaled, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformation(optax.scale_by_schedule(rate).init, update)


def split(network: GraphCast, freeze: Sequence[str]) -> tuple[GraphCast, GraphCast | None]:
    """The tensors that learn and those that patterns freeze, each with None in the other's places.

    The second is None where nothing is frozen; equinox.combine puts both together.

    Raises
    ------
    UserError
        If a pattern fits no tensor, or all are frozen.
    """
    if not freeze:
        return network, None
    names = tensor_names(network)
    _require_matches("training.freeze", freeze, names)
    learns = [not any(fnmatchcase(name, pattern) for pattern in freeze) for name in names]
    if not any(learns):
        raise UserError(f"training.freeze, {', '.join(freeze)}, freezes all {len(names)} tensors; leave some to learn")
    learning, frozen = eqx.partition(network, jax.tree.unflatten(jax.tree.structure(network), learns))
    return learning, frozen


def rate_factors(network: GraphCast, factors: Mapping[str, float]) -> dict[str, float]:
    """The factor to the learning rate of each tensor, by its name.

    Raises
    ------
    UserError
        If a pattern fits no tensor.
    """
    names = tensor_names(network)
    _require_matches("training.learning_rate_factors", factors, names)
    found = dict.fromkeys(names, 1.0)
    for pattern, factor in factors.items():
        found |= {name: factor for name in names if fnmatchcase(name, pattern)}
    return found


def by_tensor(updates: GraphCast, factors: Mapping[str, float]) -> GraphCast:
    """The update of each tensor times its factor, by its name."""
    leaves, structure = jax.tree.flatten(updates)
    names = tensor_names(updates)
    return jax.tree.unflatten(structure, [factors[name] * leaf for name, leaf in zip(names, leaves, strict=True)])


def tensor_names(tree: GraphCast) -> list[str]:
    """The names of a network's tensors, in the order of its leaves."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]


def _require_matches(key: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            groups = dict.fromkeys(name.split(".linears.")[0].split(".norm.")[0] for name in names)
            raise UserError(
                f"{key} has the pattern {pattern}, which fits no tensor of the network; its groups are "
                f"{', '.join(f'{group}.*' for group in groups)}"
            )
