"""Every command in the documentation exists, with its options; those that need no cluster run, on tiny."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import runpy
import shutil
import subprocess
import sys

import pytest
from cyclopts import App

from graphufs.cli.main import app as graphufs_app
from jobs.cli import main as jobs_cli
from tests.docs.commands import REPOSITORY, Command, all_commands, code_lines

FORECAST = "1994-01-13T06"
"""An initial time of tiny's forecasts."""
APPS = {"graphufs": graphufs_app, "graphufs-jobs": jobs_cli.app}


def refused(app: App, words: tuple[str, ...]) -> str | None:
    """What the parser of a command line says against its words; None: nothing. Nothing is run."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            app.parse_args(list(words), exit_on_error=False, print_error=False)
    except SystemExit:
        return said.getvalue()
    except Exception as error:
        return str(error) or type(error).__name__
    return None


def entry_script(path: str) -> App:
    """The command line of one of jobs/*.py, which is not run."""
    found: list[App] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs_cli, "main", lambda *, command: found.append(command))
        runpy.run_path(str(REPOSITORY / path), run_name="__main__")
    return found[0]


def fault(command: Command) -> str | None:
    """What is wrong with a command; None: nothing."""
    program, words = command.program, command.words[1:]
    if program in APPS:
        if words[:1] == ("...",):
            return None
        return refused(APPS[program], words)
    if program == "make":
        rules = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in words if "=" not in word and not word.startswith("-") and word != "..."]
        return next((f"no target {one}" for one in targets if not re.search(rf"^{one}:", rules, re.M)), None)
    if words[:1] == ("-m",):
        name = words[1]
        ours = name.startswith(("graphufs", "jobs", "devstack", "scripts"))
        return f"no module {name}" if ours and importlib.util.find_spec(name) is None else None
    if not words or not words[0].endswith(".py"):
        return None
    script = REPOSITORY / words[0]
    if not script.is_file():
        return f"no file {words[0]}"
    if words[0].startswith("jobs/"):
        return refused(entry_script(words[0]), words[1:])
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    text = script.read_text(encoding="utf-8")
    return next((f"{words[0]} has no {one}" for one in options if f'"{one}"' not in text), None)


def test_every_command_in_the_documentation_exists():
    commands = all_commands()
    assert len(commands) > 100
    assert {"graphufs", "graphufs-jobs", "make", "python"} <= {command.program for command in commands}
    faults = [f"{command}\n    {said}" for command in commands if (said := fault(command))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "line",
    [
        "graphufs trian tiny",
        "graphufs train tiny --sets a=1",
        "graphufs-jobs status --siet hpc",
        "make tests",
        "python jobs/run_training.py --nothing",
        "python jobs/gone.py",
        "python benchmarks/growth.py --nothing",
        "python -m devstack.gone",
    ],
)
def test_a_command_that_does_not_exist_is_found(line):
    assert fault(Command("page", 1, tuple(line.split())))


def test_code_is_told_from_lists_and_from_other_languages():
    text = "- a list\n    goes on\n\ntext\n\n    one\n\n    two\n\n```python\nno\n```\n\n```\nthree\n```\n"
    assert [line.strip() for _, line in code_lines(text)] == ["one", "two", "three"]


def runnable() -> list[Command]:
    """Those to run: the tutorial's first, in their order, since others need what it makes; each once."""
    found = [one for one in all_commands() if one.program in APPS and one.reason_not_to_run is None]
    found.sort(key=lambda one: one.page != "docs/tutorial.md")
    once: dict[tuple[str, ...], Command] = {}
    for one in found:
        once.setdefault(on_tiny(one), one)
    return list(once.values())


def on_tiny(command: Command) -> tuple[str, ...]:
    """The command's words with tiny for another experiment, and without periods, as its data are of other days.

    A period that is one initial time becomes one of tiny's.
    """
    others = r"^(experiments/)?(demo|demo_hourly|p0)(\.yaml)?(?=#|$)|^EXPERIMENT$"
    pairs = list(zip(command.words, command.words[1:], strict=False))
    kept = [word for before, word in pairs if not {before, word} & {"--start", "--stop"}]
    period = [word for before, word in pairs if before in ("--start", "--stop")]
    one = ("--start", FORECAST, "--stop", FORECAST) if len(period) == 2 and period[0] == period[1] else ()
    return (command.program, *(re.sub(others, "experiments/tiny.yaml", word) for word in kept), *one)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_those_that_need_no_cluster_run(tmp_path):
    """From an empty folder, as a reader would; what the tutorial makes, the other pages find."""
    shutil.copytree(REPOSITORY / "experiments", tmp_path / "experiments")
    modules = {"graphufs": "graphufs.cli", "graphufs-jobs": "jobs"}
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "GRAPHUFS_ROOT": str(tmp_path / "graphufs-root")}
    commands = runnable()
    assert len({command.words[1] for command in commands}) >= 12
    failures = []
    for command in commands:
        words = on_tiny(command)
        run = [sys.executable, "-m", modules[command.program], *words[1:]]
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            failures.append(f"{command}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    assert not failures, "\n".join(failures)
    assert list(tmp_path.glob("graphufs-root/runs/tiny/*/nightly/*/report.html"))
