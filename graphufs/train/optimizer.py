"""Learning rate and optimizer of a stage."""

from __future__ import annotations

import optax

from graphufs.config.training import LearningRate, Optimizer


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


def optimizer(settings: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW (decoupled weight decay on all parameters) after clipping by the global norm.

    The structure of its state does not depend on the settings, so that stages can hand it on.
    """
    clip = optax.identity() if settings.clip is None else optax.clip_by_global_norm(settings.clip)
    adamw = optax.adamw(rate, b1=settings.b1, b2=settings.b2, eps=settings.eps, weight_decay=settings.weight_decay)
    return optax.chain(clip, adamw)
