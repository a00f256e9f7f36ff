"""Commands as a person runs them, each in a process of its own with bounds, without the seconds that Python starts in.

A server process imports the commands once and forks for each call, so memory and processor time are those of the one
call, standard streams are real files, and a hang is ended from outside.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PRELOADED = (
    "graphufs.cli.main", "jobs.cli.main", "jobs.submission.poll", "jobs.catalogue", "jobs.preflight",
    "jobs.cli.tables", "graphufs.data.prepare", "graphufs.weatherbench.score_stores", "graphufs.deepmind.export",
    "graphufs.weatherbench.compare.comparison", "graphufs.train.trainer",
)  # fmt: skip
MEMORY, SECONDS = 200, 2.0
"""MiB and seconds of a processor that a refusal may take, starting Python aside."""
HANGS = 300.0
"""Seconds after which a call counts as hung, however busy the machine is."""
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload([*PRELOADED, __name__])


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it wrote, and the seconds and MiB that it took."""

    code: int
    out: str
    err: str
    seconds: float
    memory: float


def run(
    command: str,
    *arguments: str,
    folder: Path,
    stdin: bytes = b"",
    around: Callable[[], object] | None = None,
    **environment: str,
) -> Ended:
    """Run `graphufs` or `graphufs-jobs` with its arguments in a folder; `environment` is added to this process's.

    `around` changes the process that the command runs in, before it does. The streams lie beside the folder. Fails
    where the command does not end.
    """
    streams = folder.with_name(f"{folder.name}.streams")
    streams.mkdir(exist_ok=True)
    (streams / "in").write_bytes(stdin)
    process = context.Process(target=_call, args=(command, arguments, str(folder), str(streams), around, environment))
    process.start()
    process.join(HANGS)
    if process.is_alive():
        process.kill()
        process.join()
        pytest.fail(f"{command} {' '.join(arguments)[:200]} hangs")
    used = json.loads((streams / "used.json").read_text())
    out, err = ((streams / name).read_bytes().decode(errors="replace") for name in ("out", "err"))
    return Ended(process.exitcode or 0, out, err, **used)


def _call(
    command: str,
    arguments: Sequence[str],
    folder: str,
    streams: str,
    around: Callable[[], object] | None,
    environment: Mapping[str, str],
) -> None:  # pragma: no cover: in a process of its own
    os.environ.update(environment)
    os.chdir(folder)
    for number, name in enumerate(("in", "out", "err")):
        place = os.path.join(streams, name) if name != "out" else environment.get("STDOUT", f"{streams}/out")
        descriptor = os.open(place, (os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if number else os.O_RDONLY, 0o666)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (open(n, "w" if n else "r", closefd=False) for n in range(3))
    if around is not None:
        around()
    began, memory = time.process_time(), _peak()
    if limit := environment.get("FILE_BYTES"):  # a write beyond it fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        if command == "graphufs":
            from graphufs.cli.main import main
        else:
            from jobs.cli.main import main
        main(list(arguments))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError):  # None where it was closed
                stream.flush()
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        used = {"seconds": time.process_time() - began, "memory": _peak() - memory}
        with open(os.path.join(streams, "used.json"), "w") as file:
            json.dump(used, file)


def _peak() -> float:
    """The most MiB that this process has had at once."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 1024  # type: ignore[index]


def require_refused(ended: Ended, *words: str) -> None:
    """See that bad input was refused: 2, one error line with the words, and lines of places below it at most; soon."""
    require_told(ended)
    assert ended.code == 2, (ended.code, ended.err[-2000:])
    assert ended.out == ""
    for word in words:
        assert word in ended.err, (word, ended.err[-2000:])
    assert ended.seconds < SECONDS, ended.seconds
    assert ended.memory < MEMORY, ended.memory


def require_told(ended: Ended) -> None:
    """See that nobody meets a traceback, and a failure is one error line."""
    assert "Traceback" not in ended.err + ended.out, ended.err[-3000:]
    assert "a fault in the program" not in ended.err, ended.err[-3000:]
    lines = [line for line in ended.err.splitlines() if not line.startswith("  ")]
    if ended.code:
        assert len(lines) == 1 and lines[0].startswith("error "), ended.err[-2000:]
        assert len(ended.err) < 20_000


def tree(folder: Path) -> dict[str, Any]:
    """All that lies in a folder, with the content of files."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
