"""In bad surroundings every command does what it does elsewhere, or says in one line what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from graphufs.cli.app import app as graphufs
from jobs.cli.app import app as graphufs_jobs
from tests.conftest import TINY
from tests.hostile import surroundings
from tests.hostile.running import Ended, run, tree
from tests.hostile.test_nothing_written import EMPTY, JOBS, MORE

Line = tuple[str, tuple[str, ...]]
ROOT = ("--root", "r")
NOTHING: list[Line] = [
    *(("graphufs", line) for line in (*EMPTY.values(), *MORE, ("schema",))),
    *(("jobs", line) for line in (*JOBS.values(), ("submit", "train", "-", *ROOT), ("sites",), ("sites", "--json"))),
]
"""Every command over a root that is not there."""
DONE: list[Line] = [
    *(("graphufs", (name, str(TINY), *ROOT)) for name in ("show", "check", "report", "register", "plan-nightly")),
    ("graphufs", ("check", str(TINY), "--thorough", *ROOT)),
    ("graphufs", ("evaluate", str(TINY), "--json", *ROOT)),
    ("graphufs", ("models", "list", *ROOT)),
    ("graphufs", ("clean", *ROOT)),
    ("jobs", ("show", *ROOT)),
    ("jobs", ("doctor", *ROOT)),
]
"""Commands over a finished root, which say much."""
WORK: list[Line] = [
    *(("graphufs", (name, str(TINY), *ROOT)) for name in ("prepare", "normalize", "forecast", "evaluate", "report")),
    ("graphufs", ("train", str(TINY), *ROOT)),
    ("graphufs", ("register", str(TINY), *ROOT)),
    ("graphufs", ("run", str(TINY), *ROOT)),
    ("graphufs", ("nightly", str(TINY), *ROOT)),
    ("graphufs", ("track", str(TINY), *ROOT)),
    ("graphufs", ("migrate", *ROOT)),
    ("graphufs", ("clean", "--yes", *ROOT)),
    ("graphufs", ("export", "r/c", "w.npz")),
    ("graphufs", ("convert", "r/f", "--to", "netcdf", "--output", "out")),
    ("jobs", ("submit", "report", str(TINY), *ROOT)),
    ("jobs", ("run", str(TINY), *ROOT)),
    ("jobs", ("prune", "--days", "1", *ROOT)),
]
"""Commands that have something to write."""

USUAL: dict[tuple[Line, bool], Ended] = {}
"""How commands end elsewhere, with and without a finished root."""
STREAMS: dict[str, Callable[[], object]] = {
    "standard output is closed": partial(surroundings.closed, 1),
    "standard error is closed": partial(surroundings.closed, 2),
    "standard input is closed": partial(surroundings.closed, 0),
    "all streams are closed": partial(surroundings.closed, 0, 1, 2),
    "nobody reads the output": partial(surroundings.closed_pipe, 1),
    "nobody reads the errors": partial(surroundings.closed_pipe, 2),
    "the output's disk is full": partial(surroundings.onto, "/dev/full", 1),
    "the errors' disk is full": partial(surroundings.onto, "/dev/full", 2),
}
PLACES: dict[str, Callable[[], object]] = {
    "HOME is not set": partial(surroundings.without, "HOME"),
    "HOME may not be written to": partial(surroundings.home, "home"),
    "TMPDIR is not there": surroundings.no_temporary_folder,
    "the working directory was removed": surroundings.removed_folder,
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "f").mkdir()
    yield tmp_path / "f"
    for path in (tmp_path / "f").rglob("*"):  # so that pytest may remove them
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o700)


@pytest.fixture
def done(finished_root: Path, folder: Path) -> Path:
    """A folder with a finished root, and links to its checkpoint and its forecasts."""
    shutil.copytree(finished_root, folder / "r", symlinks=True)
    (folder / "r" / "c").symlink_to(max((folder / "r").glob("runs/tiny/*/checkpoints/*")))
    (folder / "r" / "f").symlink_to(next((folder / "r").glob("runs/tiny/*/forecasts/*.zarr")))
    return folder


def require_plain(line: Line, ended: Ended) -> None:
    """See that a command ended as they all do, and that a failure is one error line."""
    said = ended.err + ended.out
    assert "Traceback" not in said and "a fault in the program" not in said, (line, said[-3000:])
    assert ended.code in (0, 1, 2, 69, 75, 141), (line, ended)
    errors = [one for one in ended.err.splitlines() if re.match("error |the scheduler", one)]
    assert len(errors) <= 1 and (not errors or ended.code), (line, ended)


def compare(lines: list[Line], around: Callable[[], object], folder: Path) -> None:
    """See that streams change nothing of how commands end, but that output was lost, or nobody wanted it."""
    name = next(name for name, one in STREAMS.items() if one is around)
    for line in lines:
        command, arguments = line
        case = line, (folder / "r").exists()
        usual = USUAL.get(case) or USUAL.setdefault(case, run(command, *arguments, folder=folder))
        ended = run(command, *arguments, folder=folder, around=around)
        require_plain(line, ended)
        allowed = {usual.code, *((141,) if "nobody" in name else (2,) if name == "the output's disk is full" else ())}
        assert ended.code in allowed or "-" in arguments, (line, usual, ended)


@pytest.mark.hostile
@pytest.mark.parametrize("around", STREAMS.values(), ids=STREAMS)
def test_streams_that_take_nothing_change_no_ending(around: Callable[[], object], done: Path) -> None:
    compare([*NOTHING, *DONE], around, done)


@pytest.mark.parametrize("name", ["all streams are closed", "the output's disk is full"])
def test_a_few_commands_with_streams_that_take_nothing(name: str, folder: Path) -> None:
    few = [("graphufs", EMPTY["show"]), ("graphufs", EMPTY["train"]), ("jobs", JOBS["list"]), ("jobs", JOBS["poll"])]
    compare(few, STREAMS[name], folder)


@pytest.mark.hostile
@pytest.mark.parametrize("around", PLACES.values(), ids=PLACES)
def test_commands_do_without_places_that_are_not_theirs(around: Callable[[], object], folder: Path) -> None:
    for line in NOTHING:
        ended = run(line[0], *line[1], folder=folder, around=around)
        require_plain(line, ended)
        assert [one for one in tree(folder) if one != "home"] == [], line


@pytest.mark.hostile
@pytest.mark.parametrize("lines", [DONE, WORK], ids=["done", "work"])
def test_a_root_that_may_only_be_read_is_one_line(lines: list[Line], done: Path) -> None:
    before = tree(done)
    for line in lines:
        ended = run(line[0], *line[1], folder=done, around=partial(surroundings.read_only, "."))
        require_plain(line, ended)
        assert tree(done) == before, line


@pytest.mark.hostile
@pytest.mark.parametrize("around", [partial(surroundings.closed_folder, "r"), None], ids=["closed", "a file"])
def test_a_root_that_is_none_is_one_line(around: Callable[[], object] | None, folder: Path) -> None:
    if around is None:
        (folder / "r").touch()
    for line in [*NOTHING, *WORK]:
        ended = run(line[0], *line[1], folder=folder, around=around)
        require_plain(line, ended)
        assert [*tree(folder)] == ["r"], line


@pytest.mark.hostile
@pytest.mark.parametrize("output", ["data", "statistics", "runs/*/*/reports", "runs/*/*/scores", "climatology"])
def test_a_step_that_meets_a_full_disk_is_one_line(output: str, done: Path) -> None:
    for path in (done / "r").glob(output):
        shutil.rmtree(path)
    for line in WORK:
        if not {"run", "nightly"} & {*line[1]}:  # steps that are tried by themselves
            ended = run(line[0], *line[1], folder=done, around=partial(surroundings.full, 512))
            require_plain(line, ended)


@pytest.mark.hostile
def test_a_disk_that_is_small_is_one_line(folder: Path) -> None:
    for line in (("graphufs", ("prepare", str(TINY), *ROOT)), ("jobs", ("submit", "prepare", str(TINY), *ROOT))):
        ended = run(line[0], *line[1], folder=folder, around=partial(surroundings.small_disk, "r", "64k"))
        require_plain(line, ended)
        assert ended.code == 2 and "free some space" in ended.err, (line, ended)
        (folder / "r").rmdir()


LOCALES = {
    "C": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX": {"LC_ALL": "POSIX"},
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
}


@pytest.mark.hostile
@pytest.mark.parametrize("locale", LOCALES)
def test_names_with_letters_that_the_locale_has_not(locale: str, done: Path) -> None:
    (done / "Größe.yaml").write_text(TINY.read_text().replace("description: ", "description: Größe "), "utf-8")
    (done / "r").rename(done / "rö")
    program = [sys.executable, "-m", "tests.hostile.in_this_locale", str(done)]
    environment = {**os.environ, **LOCALES[locale], "PYTHONPATH": str(TINY.parents[1])}
    ended = subprocess.run(program, env=environment, capture_output=True, timeout=600)
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")[-6000:]


def test_every_command_is_tried() -> None:
    for app, name in ((graphufs, "graphufs"), (graphufs_jobs, "jobs")):
        tried = {line[0] for command, line in NOTHING if command == name}
        assert {one for one in app if not one.startswith("-")} <= tried
