"""What the payloads of jobs submitted before version 0.2 name: a pickled `Work` with root, key and attempt.

A job that waits in a queue or is requeued reads its payload long after the code has moved. It may go after release 0.2,
when no such job is left.
"""

from __future__ import annotations

from typing import Any

from jobs.worker import bootstrap


class Work:
    """The work of an attempt; pickle fills its attributes in."""

    def __call__(self) -> dict[str, Any] | None:
        """Do it."""
        return bootstrap.work(vars(self))

    def checkpoint(self) -> Any:
        """Stop it, and say what to run after a requeue: what a job of today would."""
        return bootstrap.requeued({name: vars(self)[name] for name in ("root", "key", "attempt")})
