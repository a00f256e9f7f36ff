"""The step `train`: updates stage by stage, validated and saved as it goes, from the last checkpoint to the end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optax

from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import Batch, WindowReader
from graphufs.emulator import checkpoint, symmetries
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import Diverged, Stopped, UserError
from graphufs.model.keep_freed_memory import keep_freed_memory
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage import run_files
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.storage.provenance import provenance
from graphufs.train import metrics_file
from graphufs.train.compiling.compiled_steps import Programs
from graphufs.train.devices import Devices, differences
from graphufs.train.divergence import Guard, LossDiverged
from graphufs.train.optimizer import split
from graphufs.train.reporting import Logbook, Sink
from graphufs.train.resume import Best, Position, mend_files, note_experiment, remove_lost, require_own
from graphufs.train.stages import Plan, PlannedStage
from graphufs.train.tracking.tracking import send_rest, tracked
from graphufs.train.train_step import Objective, State

REPORT_EVERY = 10
"""Updates between two lines of metrics."""


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Train, or go on training, until the last stage is done; without stages, take the model of init_from as it is.

    Raises
    ------
    UserError
        If data or statistics are missing or not those of the checkpoint, a stage has too few valid samples, the longest
        rollout does not fit the memory, or a model to be taken as it is does not suit the experiment.
    Diverged
        If a loss is not finite or runs away, and no rollback is left.
    Stopped
        After a polite stop; a checkpoint has been written.
    """
    keep_freed_memory()
    paths = Paths(experiment, root)
    devices = _devices(experiment)
    lost: list[str] = []
    with contextlib.ExitStack() as stack:
        if devices.primary:
            stack.enter_context(locked(paths.run, should_stop=should_stop, waiting=lambda: None))
            lost = remove_lost(paths.checkpoints) + mend_files(paths)
        devices.wait("the run folder is locked, and no checkpoint in it is damaged")
        data = PreparedData.open(paths.data)
        plan = Plan.of(experiment, data, devices.shard)
        there = checkpoint.last(paths.checkpoints)
        if there is not None and int(there.name) >= plan.total:
            untold = send_rest(paths) if devices.primary else []
            return {"status": "unchanged", **_result(paths, plan.total, lost + untold)}
        if not plan.stages:
            if devices.primary:
                lost += _take(paths)
            devices.wait("the checkpoint is written")
            return {"status": "completed", **_result(paths, 0, lost)}
        training = _Training(paths, data, plan, devices, progress, should_stop)
        training.warnings += lost
        untold = []
        with contextlib.ExitStack() as tracking:
            if devices.primary:
                untold = tracking.enter_context(tracked(paths))
                tracking.callback(run_files.note, paths.run, run_files.METRICS)
            training.run()
        return {"status": "completed", **_result(paths, plan.total, training.warnings + untold)}


def _devices(experiment: Experiment) -> Devices:
    settings = experiment.training
    return Devices.choose(settings.batch_size, settings.compute.devices, settings.compute.mesh)


def _result(paths: Paths, total: int, warnings: list[str]) -> dict[str, Any]:
    lines = metrics_file.read(paths.metrics)
    validations = [line for line in lines if line["event"] == "validation"]
    path = checkpoint.place(paths.checkpoints, total)
    best = Position.from_meta(checkpoint.read_meta(path)).best
    return {
        "updates": total,
        "validation_loss": validations[-1]["loss"] if validations else None,
        "checkpoint": str(path),
        "best_checkpoint": None if best is None else str(checkpoint.place(paths.checkpoints, best.update)),
        **({"warnings": warnings} if warnings else {}),
    }


def _take(paths: Paths) -> list[str]:
    """Write the model of init_from, as it is, as the checkpoint after no updates; say what became of its tensors."""
    from graphufs.deepmind.as_it_is import model_as_it_is

    source = paths.initial_weights
    assert source is not None  # the experiment would have been refused
    emulator, report = model_as_it_is(ReplayEmulator.from_experiment(paths.experiment, paths.root), source)
    there = checkpoint.read_meta(source)
    origin = there.get("imported") or {"run": there["hashes"].get("run"), "update": there["update"]}
    note_experiment(paths)
    run_files.keep(paths.run, "initial.json", json.dumps(report.to_json(), indent=2) + "\n")
    meta = {
        "total": 0,
        "position": asdict(Position()),
        "experiment": paths.experiment.model_dump(mode="json"),
        "hashes": paths.hashes,
        "provenance": provenance() | {"taken_from": origin},
    }
    path = checkpoint.save(paths.checkpoints, 0, emulator.arrays(), {}, meta)
    run_files.note_checkpoints(paths.run, [path.name])
    return report.lines()


class _Training:
    """One process's part in a training: where it stands, and what it does next."""

    def __init__(
        self,
        paths: Paths,
        data: PreparedData,
        plan: Plan,
        devices: Devices,
        progress: Progress,
        should_stop: ShouldStop,
    ) -> None:
        self.paths, self.data, self.plan, self.devices = paths, data, plan, devices
        self.progress, self.should_stop = progress, should_stop
        self.experiment, self.settings = paths.experiment, paths.experiment.training
        self.warnings: list[str] = []
        emulator = ReplayEmulator.from_experiment(self.experiment, paths.root).load_normalization()
        masks, grid = emulator.domain.masks(self.experiment.data), (data.latitude, data.longitude)
        symmetries.check(self.settings.augmentation, *grid, masks)
        there = checkpoint.last(paths.checkpoints)
        if self.settings.init_statistics == "source" and (source := there or paths.initial_weights) is not None:
            from graphufs.deepmind.warm_start import with_source_statistics

            emulator = with_source_statistics(emulator, source)
        self.objective = Objective(emulator, plan, devices)
        self.programs = Programs(self.objective)
        validation = data.samples(self.experiment.data.validation, self.experiment.data.input_frames, 1)
        if not validation.initial.size:
            raise UserError(
                f"the validation period {self.experiment.data.validation} has no whole sample; choose another, or "
                "prepare more data: `graphufs prepare` lists the stamps left out"
            )
        self.validation = WindowReader.of(self.experiment, data, validation.initial, 1)
        if self.objective.division is not None:
            part = self.objective.division.part(devices)
            self.validation = replace(self.validation, part=part)
            for stage in plan.stages:
                stage.loader.read_only(part)
        self.saved = time.monotonic()
        self.state, self.position = self._start() if there is None else self._restore(there)
        if there is not None:
            self._compare_environments(there)
        self.logbook = Logbook(self._sinks(), progress)
        if self.settings.validation_forecasts is not None:
            from graphufs.train.validation_forecasts import (
                ValidationForecaster,  # brings xarray, which training alone spares
            )

            self.forecasts = ValidationForecaster.of(emulator, data)

    def run(self) -> None:
        """Train to the end, going back after trouble as often as allowed."""
        try:
            self._others = [stage for stage in self.plan.stages if stage.end > self.position.done]
            self.programs.prepare(self._others, self.progress)
            while self.position.done < self.plan.total:
                try:
                    for stage in self.plan.stages:
                        if self.position.done < stage.end:
                            self._run_stage(stage)
                except LossDiverged as trouble:
                    self._roll_back(trouble)
        finally:
            self.programs.close()

    def _start(self) -> tuple[State, Position]:
        """The state before the first update."""
        network = self.objective.emulator.network
        if self.devices.primary:
            note_experiment(self.paths)
        if (source := self.paths.initial_weights) is not None:
            from graphufs.deepmind.warm_start import initial_network

            network, report = initial_network(self.objective.emulator, source)
            if self.devices.primary:
                run_files.keep(self.paths.run, "initial.json", json.dumps(report.to_json(), indent=2) + "\n")
            self.warnings += report.lines()
        state = self.objective.start(network)
        if source is not None and self.settings.init_optimizer:
            from graphufs.deepmind.warm_start import initial_moments

            count, *moments = initial_moments(self.objective.emulator, source)
            first, second = (split(one, self.settings.freeze)[0] for one in moments)
            taken = optax.tree.set(state.optimizer, count=count, mu=first, nu=second)
            state = self.objective.place(state._replace(optimizer=taken))
        return state, Position()

    def _restore(self, path: Path) -> tuple[State, Position]:
        """The state and position of a checkpoint."""
        meta = require_own(path, self.paths, self.plan, self.objective.emulator)
        like = self.objective.start(self.objective.emulator.network)
        emulator, training = (checkpoint.read_arrays(path, name) for name in ("emulator.npz", "training.npz"))
        forecaster = checkpoint.unflatten(like.network, emulator, "network", path)
        moments = checkpoint.unflatten(like.optimizer, training, "optimizer", path)
        if like.average is None:
            state = State(forecaster, moments, None)
        else:
            state = State(checkpoint.unflatten(like.network, training, "network", path), moments, forecaster)
        return self.objective.place(state), Position.from_meta(meta)

    def _compare_environments(self, path: Path) -> None:
        """Say what differs from where the checkpoint was written: from here on, bits may too."""
        before = checkpoint.read_meta(path)["environment"]
        self.programs.prefer(before.pop("device_batch_size", None))
        if changed := differences(before, self.devices.environment()):
            self.warnings.append(
                f"the training goes on from update {self.position.done} elsewhere than before: {'; '.join(changed)}. "
                "Its result will equal that of an undisturbed run to rounding only, not bit for bit"
            )

    def _sinks(self) -> list[Sink]:
        if not self.devices.primary:
            return []
        return [metrics_file.MetricsFile(self.paths.metrics, self.position.done).write]

    def _run_stage(self, stage: PlannedStage) -> None:
        program = self.programs[stage]
        settings, forecasts = self.settings, self.settings.validation_forecasts
        guard = Guard.from_state(settings.divergence, stage.name, self.position.guard)
        self.logbook.restart_clock(stage.loader.waited)
        batches = stage.loader.batches(self.position.done - stage.first, stage.updates)
        batch = self._next(batches)
        while batch is not None:
            done, factor = self.position.done, self.position.rate_factor
            self.programs.require_fit()
            controls = self.objective.controls(done, factor)
            self.state, outcome = program(self.state, controls, batch)
            batch = self._next(batches)  # comes while the update is computed, before anything waits for that
            self.logbook.note(outcome)
            if self._others:
                outcome.loss.block_until_ready()
                self.programs.prepare_others(self._others)
                self._others = []
            self.position = replace(self.position, done=(done := done + 1))
            ends = done == stage.end
            stop, late = self.devices.agree(self.should_stop(), self._is_late())
            validate = ends or done % settings.validate_every == 0
            forecast = forecasts is not None and (ends or done % forecasts.every == 0)
            save = ends or stop or late or done % settings.checkpoint_every == 0
            if validate or forecast or save or done % REPORT_EVERY == 0:
                self.logbook.report(done, stage, guard, float(controls.learning_rate) * factor)
                self.position = replace(self.position, guard=guard.state())
            if validate:
                loss = self.objective.mean_loss(self.state.forecaster, self.validation, stage.loss)
                self.logbook.write(
                    "validation", done, stage=stage.name, loss=loss, samples=len(self.validation.initial_times)
                )
                self.progress(Event("validation", done, self.plan.total, "updates", {"loss": loss}))
            if forecast:
                save = self._forecast(stage) or save
            if validate or forecast:
                self.logbook.restart_clock(stage.loader.waited)
            if save:
                self._save()
            if stop and done < self.plan.total:
                raise Stopped(f"stopped after {done} of {self.plan.total} updates; a checkpoint is written")

    def _next(self, batches: Iterator[tuple[int, Batch]]) -> Batch | None:
        """The next batch, on the devices or on its way there; None after the last."""
        found = next(batches, None)
        return None if found is None else self.objective.scatter(found[1])

    def _is_late(self) -> bool:
        minutes = self.settings.checkpoint_minutes
        return minutes is not None and time.monotonic() - self.saved > 60 * minutes

    def _forecast(self, stage: PlannedStage) -> bool:
        """Score the validation forecasts; whether they are the best so far."""
        assert self.forecasts is not None
        found, done = self.forecasts.score(self.devices.local(self.state.forecaster)), self.position.done
        better = self.position.best is None or found.score < self.position.best.score
        if better:
            self.position = replace(self.position, best=Best(found.score, done))
        times = len(self.forecasts.initial_times)
        self.logbook.write(
            "forecasts",
            done,
            stage=stage.name,
            score=found.score,
            rmse=found.rmse,
            ratio=found.ratio,
            lead_hours=self.forecasts.steps * self.experiment.data.time_step,
            initial_times=times,
            best=better,
        )
        self.progress(Event("validation forecasts", done, self.plan.total, "updates", {"score": found.score}))
        return better

    def _save(self) -> None:
        """Write a checkpoint and remove those no longer needed."""
        moments = self.devices.gather(self.state.optimizer)
        if self.devices.primary:
            emulator = replace(self.objective.emulator, network=self.state.forecaster)
            meta = {
                **self.position.meta(self.plan),
                "environment": self.devices.environment() | {"device_batch_size": self.programs.device_batch_size},
                "experiment": self.experiment.model_dump(mode="json"),
                "hashes": self.paths.hashes,
                "provenance": provenance(),
            }
            training = checkpoint.flatten(moments, "optimizer")
            if self.state.average is not None:
                training |= checkpoint.flatten(self.state.network, "network")
            folder = self.paths.checkpoints
            checkpoint.save(folder, self.position.done, emulator.arrays(), training, meta)
            run_files.note(self.paths.run, run_files.METRICS)
            keep = {*checkpoint.updates(folder)[-self.settings.keep_checkpoints :]}
            keep |= {stage.end for stage in self.plan.stages}
            if self.position.best is not None:
                keep.add(self.position.best.update)
            kept = (path.name for path in checkpoint.places(folder) if int(path.name) in keep)
            run_files.note_checkpoints(self.paths.run, kept)
            checkpoint.prune(folder, keep)
        self.devices.wait("the checkpoint is written")
        self.saved = time.monotonic()

    def _roll_back(self, trouble: LossDiverged) -> None:
        """Go back to the last checkpoint with a lower learning rate, or give up.

        Raises
        ------
        Diverged
            If no rollback is left.
        """
        settings, there = self.settings.divergence, checkpoint.last(self.paths.checkpoints)
        told = self._describe(trouble, there)
        used, factor = self.position.rollbacks + 1, self.position.rate_factor * settings.rate_factor
        if used > settings.rollbacks:
            after = f" after {self.position.rollbacks} rollbacks" if self.position.rollbacks else ""
            raise Diverged(f"{told}; lower the learning rate or look at these samples{after}") from None
        self.logbook.forget()
        self.state, position = self._start() if there is None else self._restore(there)
        # The count goes on from before the rollback, and into the next checkpoint.
        self.position = replace(position, rollbacks=used, rate_factor=factor)
        self.logbook.sinks = self._sinks()
        self.logbook.write("rollback", position.done, reason=told, rate_factor=factor, rollbacks=used)
        self.warnings.append(f"{told}; went back to it with {factor:g} times the learning rate")

    def _describe(self, trouble: LossDiverged, there: Path | None) -> str:
        stage = self.plan.stage_at(trouble.update - 1)
        times = stage.loader.initial_times(trouble.update - 1 - stage.first)
        return (
            f"the loss or gradient of update {trouble.update} {trouble.reason}; its samples start at "
            f"{', '.join(str(time.astype('datetime64[h]')) for time in times)}. The last good checkpoint is "
            f"{f'of update {int(there.name)}' if there else 'none'}"
        )
