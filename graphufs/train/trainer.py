"""The step `train`: updates stage by stage, validated and saved as it goes, from the last checkpoint to the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import optax

from graphufs import configuration
from graphufs.emulator import ReplayEmulator, training_samples
from graphufs.errors import Stopped, UserError
from graphufs.experiment import Experiment
from graphufs.files import write_text
from graphufs.layout import Layout
from graphufs.lock import locked
from graphufs.model.memory import keep_freed_memory
from graphufs.provenance import provenance
from graphufs.replay.frames import PreparedData
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.train import checkpoint, metrics
from graphufs.train.loader import BatchLoader, Samples
from graphufs.train.schedule import learning_rate, optimizer
from graphufs.train.update import Objective, Outcome, State, mean_loss

REPORT_EVERY = 10
"""Updates between two lines of metrics."""
KEEP = 2
"""Checkpoints kept while training, counted from the last."""


@dataclass(frozen=True)
class Plan:
    """A training stage with its data and its place among all updates."""

    name: str
    loader: BatchLoader
    first: int
    updates: int


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Train, or go on training, until the last stage is done.

    Raises
    ------
    UserError
        If data or statistics are missing, a stage has too few valid samples, or a loss is not finite.
    Stopped
        After a polite stop; a checkpoint has been written.
    """
    layout = Layout(experiment, root)
    with locked(layout.run, should_stop=should_stop, waiting=lambda: None):
        return _train(experiment, layout, progress, should_stop)


def _train(experiment: Experiment, layout: Layout, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    data = PreparedData.open(layout.data)
    plans = _plan(experiment, data)
    total = plans[-1].first + plans[-1].updates
    there = checkpoint.updates(layout.checkpoints)
    if there and there[-1] >= total:
        return {"status": "unchanged", **_result(layout, total)}
    keep_freed_memory()
    emulator = ReplayEmulator.from_experiment(experiment, layout.root).load_normalization()
    rate = _rate(experiment, plans)
    objective = Objective(emulator, optimizer(experiment.training.optimizer, rate))
    state, done = objective.start(), 0
    if there:
        done = there[-1]
        state = _restore(layout.checkpoints / f"{done:08d}", state)
    else:
        write_text(layout.run / "experiment.yaml", configuration.dump(experiment))
    session = _Session(layout, objective, rate, metrics.MetricsFile(layout.metrics, done), total, progress)
    validation = data.samples(experiment.data.validation, experiment.data.input_frames, 1)
    validate = Samples.of(experiment, data, validation.initial, 1)
    for plan in plans:
        for number, batch in plan.loader.batches(max(done - plan.first, 0), plan.updates):
            state, outcome = objective.update(state, batch)
            done = plan.first + number + 1
            session.note(done, plan, outcome)
            if done % experiment.training.validate_every == 0 or done in (total, plan.first + plan.updates):
                session.validate(done, plan, state, validate)
            stop = should_stop()
            if done % experiment.training.checkpoint_every == 0 or done == total or stop:
                session.save(done, plan, state)
            if stop and done < total:
                raise Stopped(f"stopped after {done} of {total} updates; a checkpoint is written")
    return {"status": "completed", **_result(layout, total)}


def _plan(experiment: Experiment, data: PreparedData) -> list[Plan]:
    """The stages with their loaders; stages counted in epochs get their updates from the valid samples."""
    size, seed = experiment.training.batch_size, experiment.training.seed
    loaders = []
    for index, stage in enumerate(experiment.training.stages):
        samples = training_samples(experiment, data, index)
        if len(samples.initial_times) < size:
            raise UserError(
                f"stage {stage.name!r} has {len(samples.initial_times)} valid samples in the training period, fewer "
                f"than one batch of {size}; `graphufs prepare` lists the stamps left out"
            )
        loaders.append(BatchLoader(samples, size, (seed, index)))
    stages = experiment.training.stages
    counts = [
        stage.updates or (stage.epochs or 0) * loader.batches_per_epoch
        for stage, loader in zip(stages, loaders, strict=True)
    ]
    firsts = [0, *accumulate(counts)]
    return [Plan(*parts) for parts in zip([stage.name for stage in stages], loaders, firsts[:-1], counts, strict=True)]


def _rate(experiment: Experiment, plans: list[Plan]) -> optax.Schedule:
    """The learning rate by update over all stages: the optimizer's moments go on from stage to stage."""
    schedules = [
        learning_rate(stage.learning_rate, plan.updates)
        for stage, plan in zip(experiment.training.stages, plans, strict=True)
    ]
    return optax.join_schedules(schedules, [plan.first for plan in plans[1:]])


def _restore(path: Path, state: State) -> State:
    network = checkpoint.unflatten(state.network, checkpoint.read_arrays(path, "emulator.npz"), "network", path)
    moments = checkpoint.unflatten(state.optimizer, checkpoint.read_arrays(path, "training.npz"), "optimizer", path)
    return State(network, moments)


def _result(layout: Layout, total: int) -> dict[str, Any]:
    validations = [line for line in metrics.read(layout.metrics) if line["event"] == "validation"]
    return {
        "updates": total,
        "validation_loss": validations[-1]["loss"] if validations else None,
        "checkpoint": str(layout.checkpoints / f"{total:08d}"),
    }


class _Session:
    """Keeps the books of one training process: losses between reports, speed, checkpoints."""

    def __init__(
        self,
        layout: Layout,
        objective: Objective,
        rate: optax.Schedule,
        file: metrics.MetricsFile,
        total: int,
        progress: Progress,
    ) -> None:
        self.experiment, self.layout, self.objective = objective.emulator.experiment, layout, objective
        self.rate, self.file, self.total, self.progress = rate, file, total, progress
        self.pending: list[Outcome] = []
        self.began, self.waited = time.perf_counter(), 0.0

    def note(self, done: int, plan: Plan, outcome: Outcome) -> None:
        """Collect an update's outcome and report every few updates."""
        self.pending.append(outcome)
        if done % REPORT_EVERY == 0 or done in (self.total, plan.first + plan.updates):
            self._report(done, plan)

    def _report(self, done: int, plan: Plan) -> None:
        if not self.pending:
            return
        losses = np.array([float(outcome.loss) for outcome in self.pending])
        norms = [float(outcome.gradient_norm) for outcome in self.pending]
        first = done - len(losses)
        if not np.isfinite(losses).all() or not np.isfinite(norms).all():
            self._refuse(first, plan, losses, norms)
        now, waited = time.perf_counter(), plan.loader.waited
        seconds = max(now - self.began, 1e-9)
        waiting = max(waited - self.waited, 0.0) / seconds
        speed = len(losses) * plan.loader.batch_size / seconds
        self.began, self.waited = now, waited
        by_variable = {
            name: float(np.mean([float(outcome.by_variable[name]) for outcome in self.pending]))
            for name in self.pending[0].by_variable
        }
        self.pending = []
        self.file.write(
            "update",
            done,
            stage=plan.name,
            loss=float(losses.mean()),
            loss_by_variable=by_variable,
            learning_rate=float(self.rate(done - 1)),
            gradient_norm=float(np.mean(norms)),
            samples_per_second=round(speed, 3),
            waiting=round(waiting, 4),
        )
        shown = {"loss": float(losses.mean()), "samples/s": speed, "waiting %": 100 * waiting}
        self.progress(Event(f"stage {plan.name}", done - plan.first, plan.updates, "updates", shown))

    def _refuse(self, first: int, plan: Plan, losses: np.ndarray, norms: list[float]) -> None:
        bad = int(np.argmin(np.isfinite(losses) & np.isfinite(norms)))
        times = plan.loader.initial_times(first - plan.first + bad)
        last = checkpoint.updates(self.layout.checkpoints)
        raise UserError(
            f"the loss or gradient of update {first + bad + 1} is not finite (loss {losses[bad]}, gradient norm "
            f"{norms[bad]}); its samples start at {', '.join(str(time.astype('datetime64[h]')) for time in times)}. "
            f"The last good checkpoint is {f'of update {last[-1]}' if last else 'none'}; lower the learning rate or "
            "look at these samples"
        )

    def validate(self, done: int, plan: Plan, state: State, samples: Samples) -> None:
        """Compute and note the one-step loss over the validation period."""
        self._report(done, plan)
        loss = mean_loss(self.objective, state.network, samples, self.experiment.training.batch_size)
        self.file.write("validation", done, stage=plan.name, loss=loss, samples=len(samples.initial_times))
        self.progress(Event("validation", done, self.total, "updates", {"loss": loss}))
        self.began, self.waited = time.perf_counter(), plan.loader.waited

    def save(self, done: int, plan: Plan, state: State) -> None:
        """Write a checkpoint and remove older ones."""
        self._report(done, plan)
        emulator = replace(self.objective.emulator, network=state.network)
        meta = {
            "stage": plan.name,
            "total": self.total,
            "experiment": self.experiment.model_dump(mode="json"),
            "hashes": self.layout.hashes,
            "provenance": provenance(),
        }
        training = checkpoint.flatten(state.optimizer, "optimizer")
        checkpoint.save(self.layout.checkpoints, done, emulator.arrays(), training, meta)
        checkpoint.prune(self.layout.checkpoints, set(checkpoint.updates(self.layout.checkpoints)[-KEEP:]))
