"""Start a job's process with the signal that announces its end held back.

Importing what a job needs takes seconds, on a busy node many. The signal may come in that time, Slurm sends it up to a
minute early; it would kill the process before submitit can take it, and the job would not be requeued. Held back, it
arrives as soon as the work is there to be asked to stop (`release`).
"""

from __future__ import annotations

import os
import signal


def announcing() -> signal.Signals:
    """The signal that announces the end of the time, as submitit calls it."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def release() -> None:
    """Let the signal come; one that was held back comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {announcing()})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {announcing()})
    from submitit.core.submission import submitit_main

    submitit_main()
