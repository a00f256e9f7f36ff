"""Start a job's process with the signal that announces its end held back.

Importing what a job needs takes seconds, on a busy node many. The signal may come in that time, Slurm sends it up to a
minute early; it would kill the process before submitit can take it, and the job would not be requeued. Held back, it
arrives as soon as the work is there to be asked to stop (`release`).

The scripts and payloads of submitted jobs name this module, its function `work` and nothing else of ours, and a job
may start long after an upgrade: both names stay.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any


def announcing() -> signal.Signals:
    """The signal that announces the end of the time, as submitit calls it."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def release() -> None:
    """Let the signal come; one that was held back comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {announcing()})


def work(what: dict[str, Any]) -> dict[str, Any] | None:
    """Do the work of an attempt, as submitit calls it: the step's result, or None for processes that only help.

    It is told the job's `root` and `key`, and the number of the `attempt`.
    """
    from jobs.worker import runner

    return runner.work(what, release)


def requeued(what: dict[str, Any]) -> Any:
    """Stop the step, so that it has saved all it did, and say what to run after the requeue."""
    from jobs.worker import runner

    return runner.requeued(work, what)


work.__dict__["checkpoint"] = requeued  # where submitit looks for it


def check(submitit: Path) -> None:
    """See that nobody but the account can have written what is about to be unpickled; ends the process if not."""
    from graphufs.errors import UserError
    from graphufs.storage.atomic import write_json
    from jobs import permissions
    from jobs.job.records import now

    attempt, root = submitit.parent, submitit.parents[4]
    payloads = submitit.glob("*_submitted.pkl")
    try:
        permissions.require_private(root, submitit, *payloads, group=os.environ.get(permissions.SHARED) == "1")
    except UserError as error:
        number = os.environ.get("SLURM_JOB_ID", "")
        write_json(attempt / "ending.json", {"ending": "bad_input", "message": str(error), "at": now(), "id": number})
        sys.exit(f"error {error}")


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {announcing()})
    check(Path(sys.argv[1]))
    from submitit.core.submission import submitit_main

    submitit_main()
