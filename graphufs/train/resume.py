"""Where a training stands, besides the arrays: what a checkpoint's meta.json keeps of it, and how a resume checks it.

There are no random numbers to keep: the initial parameters come from the seed, and which samples a batch holds is a
function of the seed, the stage and the number of the batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config import loading
from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.storage import run_files
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from graphufs.train.stages import Plan


@dataclass(frozen=True)
class Best:
    """The best score of the validation forecasts so far (lower is better), and after how many updates."""

    score: float
    update: int


@dataclass(frozen=True)
class Position:
    """A place in a training, after so many updates `done`.

    `rate_factor` is what the guard's `rollbacks` have made of the learning rate, `guard` the losses it remembers, see
    Guard.state.
    """

    done: int = 0
    rate_factor: float = 1.0
    rollbacks: int = 0
    best: Best | None = None
    guard: dict[str, Any] | None = None

    def meta(self, plan: Plan) -> dict[str, Any]:
        """For meta.json: this position, and which data each stage's batches come from."""
        stage = plan.stage_at(max(self.done - 1, 0))
        return {
            "stage": stage.name,
            "stage_updates": self.done - stage.first,
            "total": plan.total,
            "position": asdict(self),
            "loaders": {stage.name: stage.loader.identity() for stage in plan.stages},
        }

    @staticmethod
    def from_meta(meta: dict[str, Any]) -> Position:
        """The position a checkpoint was written at.

        Raises
        ------
        UserError
            If the description has none.
        """
        try:
            position = dict(meta["position"])
            best = position.pop("best")
            return Position(**position, best=None if best is None else Best(**best))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the checkpoint of update {meta.get('update')} does not say where its training stood ({error!r}); "
                "remove it, and `graphufs train` goes on from the one before it"
            ) from None


def remove_lost(folder: Path) -> list[str]:
    """Remove the checkpoints that a training cannot use any more, and say what is lost, also without this.

    They are the damaged ones, and those that know of a best checkpoint that is damaged or gone: it is made again on
    the way. Call with the run's lock held.

    Raises
    ------
    UserError
        If a checkpoint is of another run: a person put it there. If there is a file in the folder's place.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder, so no checkpoint could be written; remove it")
    told = [f"the checkpoint of update {int(name)} is gone" for name in run_files.lost_checkpoints(folder.parent)]
    kept: int | None = None
    damage = {update: checkpoint.damage(checkpoint.place(folder, update)) for update in checkpoint.updates(folder)}
    for update in reversed(damage):
        path, wrong = checkpoint.place(folder, update), damage[update]
        if wrong is None:
            best = Position.from_meta(checkpoint.read_meta(path)).best
            if kept is None and best is not None and damage.get(best.update, "it is gone") is not None:
                wrong = f"the best checkpoint it knows of, that of update {best.update}, is lost"
        if wrong is None:
            kept = kept or update
            continue
        checkpoint.remove(path)
        told.append(f"the checkpoint of update {update} cannot be used ({wrong}) and was removed")
    if told:
        told.append(f"the training goes on from {f'update {kept}' if kept else 'the start'}")
    return told


def note_experiment(paths: Paths) -> None:
    """Write the run's experiment.yaml, whose first line promises that the run folder has a list of checksums."""
    run_files.keep(paths.run, run_files.EXPERIMENT, run_files.PROMISE + loading.dump(paths.experiment))


def mend_files(paths: Paths) -> list[str]:
    """Mend what is damaged of a run's single files that trainings write, and say what is lost.

    Call with the run's lock held, and after `remove_lost`.
    """
    there = [path.name for path in checkpoint.places(paths.checkpoints)]
    if not there:
        if run_files.lost_checkpoints(paths.run):
            run_files.note_checkpoints(paths.run, ())
        return []  # all else is written at the start
    written = paths.run / run_files.EXPERIMENT
    run_files.mend_list(paths.run)
    if run_files.promises(paths.run):  # a run of 0.1.0 has no list, and one that is finished stays as it is
        run_files.note_checkpoints(paths.run, there)
    if not written.is_file() or run_files.damage(paths.run, run_files.EXPERIMENT) is not None:
        note_experiment(paths)
    if run_files.damage(paths.run, "initial.json") is not None:
        (paths.run / "initial.json").unlink(missing_ok=True)
        run_files.forget(paths.run, "initial.json")
    lost = metrics_file.mend(paths.metrics)
    return [] if lost is None else [lost]


def require_own(path: Path, paths: Paths, plan: Plan, emulator: ReplayEmulator) -> dict[str, Any]:
    """The meta.json of a checkpoint from which this very training can go on.

    Raises
    ------
    UserError
        If it belongs to another run, or its data or statistics are others than now.
    """
    meta = checkpoint.read_meta(path)
    remedy = f"restore what it was trained with, or remove {paths.checkpoints} to start over"
    run = meta["hashes"]["run"]
    if run != paths.hashes["run"]:
        raise UserError(f"the checkpoint {path} belongs to the run {run}, not {paths.hashes['run']}; {remedy}")
    for stage in plan.stages:
        before, now = meta["loaders"].get(stage.name), stage.loader.identity()
        if before != now:
            changed = [key for key in now if before is None or before.get(key) != now[key]]
            told = ", ".join(f"{key} {(before or {}).get(key)} then, {now[key]} now" for key in changed)
            raise UserError(
                f"the checkpoint {path} was trained on other samples of stage {stage.name!r}: {told}; {remedy}"
            )
    arrays = checkpoint.read_arrays(path, "emulator.npz")
    changed = [
        name.removeprefix("statistics.")
        for name, values in emulator.arrays().items()
        if name.startswith("statistics.") and not np.array_equal(arrays.get(name, np.nan), values)
    ]
    if changed:
        raise UserError(
            f"the checkpoint {path} was trained with other statistics: {', '.join(sorted(changed))} changed; {remedy}"
        )
    return meta
