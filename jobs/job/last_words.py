"""How an attempt ended whose work left no word on that: by what the end of its error logs has in it."""

from __future__ import annotations

import contextlib
import os
import re

from graphufs import reading
from jobs.job.folder import JobFolder
from jobs.job.reading import unreadable
from jobs.job.records import Attempt

SIGNS = (
    ("exceeded memory limit|oom_kill|Out Of Memory", "out_of_memory"),
    ("No space left on device|Disk quota exceeded", "disk_full"),
    ("timed-out too many times", "time_limit"),
    (r"Traceback \(most recent call last\)", "error"),
)
"""What the end of a log has in it, and how the attempt ended then."""


def last_words(job: JobFolder, attempt: Attempt) -> tuple[str, str]:
    """The ending that the logs show, `killed` where they show none, and their last line; empty without one."""
    tail = _tail(job, attempt)
    ending = next((name for words, name in SIGNS if re.search(words, tail)), "killed")
    last = [line for line in tail.splitlines() if line.strip()]
    return ending, last[-1] if last else ""


def _tail(job: JobFolder, attempt: Attempt) -> str:
    """The end of the attempt's error logs."""
    texts, folder = [], job.submitit(attempt.number)
    for path in (job.folder(attempt.number) / "controller.log", *folder.glob("*.err"), *folder.glob("slurm-*")):
        with unreadable(path), contextlib.suppress(FileNotFoundError), reading.open_file(path) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - 8000, 0))
            texts.append(file.read(8000).decode(errors="replace"))
    return re.sub(r"submitit INFO.*", "", "\n".join(texts))
