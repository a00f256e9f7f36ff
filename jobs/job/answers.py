"""What Slurm says of jobs that are not known to be done: one call of squeue and one of sacct for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.job.records import Snapshot, moment
from jobs.scheduler import slurm


@dataclass(frozen=True)
class Answers:
    """What squeue and sacct said, and which of them did not answer."""

    queued: dict[str, slurm.Row]
    accounted: dict[str, slurm.Row]
    silent: tuple[str, ...]

    @staticmethod
    def of(snapshots: Sequence[Snapshot]) -> Answers:
        """Slurm's answers about those that it was given and that are not known to be done."""
        asked = [
            (seen.id, seen.attempt)
            for seen in snapshots
            if seen.intent.executor == "slurm" and seen.attempt is not None and seen.id and seen.result is None
        ]
        queued: dict[str, slurm.Row] = {}
        accounted: dict[str, slurm.Row] = {}
        silent = []
        if asked:
            try:
                queued = slurm.squeue()
            except slurm.Silent as trouble:
                silent.append(str(trouble))
            begun = min(moment(attempt.begun) for _, attempt in asked)
            try:
                accounted = slurm.sacct({number for number, _ in asked}, begun)
            except slurm.Silent as trouble:
                silent.append(str(trouble))
        return Answers(queued, accounted, tuple(silent))

    def rows(self, number: str) -> dict[str, slurm.Row]:
        """The freshest word on a job, by element."""
        found: dict[str, slurm.Row] = {}
        for rows in (self.accounted, self.queued):  # the controller's word goes before the accounting's
            for key, row in rows.items():
                if key.split("_")[0] == number:
                    found[key.partition("_")[2] or "0"] = row
        return found
