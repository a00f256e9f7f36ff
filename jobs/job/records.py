"""What a job's folder keeps, in memory: intent, attempts, a snapshot of all of it; and how times are written there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobs.job.reading import Broken

if TYPE_CHECKING:
    from jobs.job.folder import JobFolder


def now() -> str:
    """The present time, UTC, to the second, as it is kept in files."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A length of time for reading: 42 s, 3 min, 5.2 h, 2.1 d."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            number = seconds / size
            return f"{number:.1f} {unit}" if unit == "h" else f"{number:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"


def seconds_since(text: str) -> float:
    """Seconds from a time as `now` gives it."""
    return (datetime.now(UTC) - moment(text)).total_seconds()


def moment(text: str) -> datetime:
    """The time that `now` gave.

    Raises
    ------
    ValueError
        If it is none of this calendar's last or next few hundred years.
    """
    found = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if not 1970 <= found.year < 2300:
        raise ValueError(f"{text} is not a time at which a job was")
    return found


@dataclass(frozen=True)
class Intent:
    """What a job is to do, which of the same key never changes, and what it needs and who wants it, which may.

    The `labels` say where the job comes from, by name, as its last submitter does; the `request` what is asked of this
    run, by field of `graphufs.config.request.Request`, of which a step reads its own.
    """

    key: str
    step: str
    site: str
    executor: str
    digest: str
    created: str
    needs: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    """Keys that a newer version wrote: kept where the file is written again."""


@dataclass(frozen=True)
class Attempt:
    """One submission of a job, with what the site file said.

    Its `phase` is `submitting` until the job's number is noted, then `submitted`; `refused` with the site's `message`;
    `blocked` where a job it needs did not succeed, `waiting` where the site lets no more run at once. By the `name` at
    the scheduler a lost number is found again; the `id` is the scheduler's number, or that of a local process, of which
    `process` has host, boot and start time [the kernel's ticks]. The `cause` is `person`, or the ending that the
    attempt goes on after. It has `begun` by the clock of `host`.
    """

    number: int
    phase: str
    name: str
    begun: str
    resources: dict[str, Any]
    site: dict[str, Any]
    cause: str = "person"
    id: str | None = None
    message: str = ""
    process: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    """Keys that a newer version wrote: kept where the file is written again."""


@dataclass(frozen=True)
class Snapshot:
    """What a job's folder held when it was read: the intent, the last attempt and what came of it.

    What is `odd` could not be read, but is not needed to know the job's state.
    """

    job: JobFolder
    intent: Intent
    attempt: Attempt | None
    claims: dict[str, str]
    segments: list[dict[str, Any]]
    result: dict[str, Any] | None
    progress: dict[str, Any] | None = None
    odd: tuple[Broken, ...] = ()

    @property
    def id(self) -> str | None:
        """The number of the job that does the work; that of sbatch's answer until one has claimed it."""
        for claim in self.claims.values():
            if claim and not claim.startswith("DEBUG_"):
                return claim.split("_")[0]
        return None if self.attempt is None else self.attempt.id
