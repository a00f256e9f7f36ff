"""Every listed bad input to a command: one error line soon, nothing written, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc

import pytest

from graphufs.cli import ending
from graphufs.deepmind.npz import read_checkpoint
from graphufs.errors import UserError
from tests.conftest import TINY
from tests.hostile import cases
from tests.hostile.running import require_refused, require_told, run, tree

TABLE = [*cases.YAML, *cases.SET, *cases.CLI, *cases.JOBS]


@pytest.fixture
def folder(tmp_path):
    """Where a command runs; beside it lies nothing of ours."""
    place = tmp_path / "here"
    place.mkdir()
    return place


@pytest.mark.parametrize("case", cases.parameters(TABLE))
def test_bad_input_is_refused_in_one_line(case, folder):
    case.make(folder)
    before = tree(folder)
    line = [part.replace("{}", str(folder)) if part == "{}" else part for part in case.line]
    ended = run(case.command, *line, folder=folder, stdin=case.stdin, **case.environment)
    require_refused(ended, *case.words)
    assert tree(folder) == before


@pytest.mark.parametrize("name", [pytest.param("claims 8 TB"), *(
    pytest.param(name, marks=pytest.mark.hostile) for name in cases.NPZ if name != "claims 8 TB"
)])  # fmt: skip
def test_an_npz_that_claims_more_than_it_has_is_refused_before_memory_is_taken(name, folder):
    (folder / "bad.npz").write_bytes(cases.NPZ[name]())
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bad\.npz"):
        read_checkpoint(folder / "bad.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20


@pytest.mark.hostile
def test_a_training_refuses_weights_that_claim_8_tb(normalized_root, copy_of_root, folder):
    (folder / "bad.npz").write_bytes(cases.NPZ["claims 8 TB"]())
    root = copy_of_root(normalized_root)
    ended = run("graphufs", "train", str(TINY), "--root", str(root), "--init-from", "bad.npz", folder=folder)
    require_told(ended)
    assert ended.code == 2 and "bad.npz" in ended.err


def program(*arguments, shell="", **environment):
    """A command as a program of its own; `shell` is what follows it on the shell's line."""
    line = '"$@" ' + shell
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        timeout=300,
        env={**os.environ, **environment},
    )


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.hostile
def test_an_experiment_in_utf8_is_read_and_shown_in_a_locale_without_its_letters(folder):
    (folder / "ä.yaml").write_text(TINY.read_text().replace("description: ", "description: Größe "), "utf-8")
    done = program("graphufs.cli.main", "show", folder / "ä.yaml", "--root", folder / "r", **ASCII)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    said = program("graphufs.cli.main", "show", TINY, "--set", "description=Größe", "--json", **ASCII)
    assert json.loads(said.stdout)["experiment"]["description"] == "Größe"


@pytest.mark.hostile
@pytest.mark.parametrize("command", [("graphufs.cli.main", "schema"), ("jobs", "sites", "--json")])
@pytest.mark.parametrize(
    ("shell", "code", "words"),
    [
        ("| head -c 1; exit ${PIPESTATUS[0]}", 141, ""),
        ("| true; exit ${PIPESTATUS[0]}", 141, ""),
        ("> /dev/full", 2, "error No space left on device; free some space, or choose another --root"),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
    ],
)
def test_output_that_nobody_takes_ends_a_command_without_a_word_too_many(command, shell, code, words):
    done = program(*command, shell=shell)
    small = code == 141 and done.returncode == 0  # what the pipe's buffer took before it was closed
    assert (done.returncode == code or small) and done.stderr.decode().strip() == words


@pytest.mark.hostile
@pytest.mark.parametrize("root", ["/sys/graphufs", "/dev/null/r"])
def test_a_root_that_cannot_be_written_is_named(root, folder):
    ended = run("graphufs", "run", str(TINY), "--root", root, folder=folder)
    require_refused(ended, root.rpartition("/")[0])


@pytest.mark.hostile
def test_a_disk_that_takes_no_more_is_one_line(folder):
    ended = run("graphufs", "run", str(TINY), "--root", "r", folder=folder, FILE_BYTES="8192")
    assert ended.code == 2 and "Traceback" not in ended.err  # JAX warns of its cache, which it cannot keep either
    assert ended.err.splitlines()[-1].startswith("error ") and "free some space" in ended.err


@pytest.mark.hostile
def test_a_device_of_no_name_is_one_line(folder):
    done = program("graphufs.cli.main", "prepare", TINY, "--root", folder / "r", JAX_PLATFORMS="quantum")
    assert done.returncode == 2 and done.stderr.decode().splitlines()[-1].startswith("error ")
    assert b"quantum" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.hostile
@pytest.mark.parametrize("script", ["jobs/run_training.py", "jobs/run_evaluation.py", "jobs/calc_normalization.py"])
def test_the_scripts_end_as_the_commands_do(script, folder):
    done = subprocess.run(
        [sys.executable, TINY.parents[1] / script, "x[/b].yaml"], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error cannot read the experiment x[/b].yaml"), done.stderr


def broken(error):
    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ZeroDivisionError("a\nb"), 1, "error a fault in the program, ZeroDivisionError: a; where it happened is in "),
        (PermissionError(13, "Permission denied", "x[/b]"), 2, "error x[/b]: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "error No space left on device; free some space"),
        (OSError("odd"), 2, "error OSError: odd\n"),
        (MemoryError(), 1, "error the memory"),
        (UserError("\x1b[2J\udcff is bad:\n  place"), 2, "error \\x1b[2J\\udcff is bad:\n  place\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_what_a_command_raises_becomes_a_line_and_a_code(error, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(ending.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        ending.finish(broken(error), [])
    said = capsys.readouterr().err
    assert ended.value.code == code and said.startswith(words) and "Traceback" not in said
    logs = list(tmp_path.glob("graphufs-*.log"))
    assert len(logs) == isinstance(error, ZeroDivisionError)
    if logs:
        assert "in command\n" in logs[0].read_text() and str(logs[0]) in said


def test_a_traceback_is_shown_to_who_asks_for_it(capsys):
    with pytest.raises(SystemExit) as ended:
        ending.finish(broken(UserError("bad")), ["show", "--debug"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "Traceback" in said and said.endswith("error bad\n")
    seen = []
    with pytest.raises(SystemExit):
        ending.finish(seen.append, ["a", "--debug", "--", "--debug"])
    assert seen == [["a", "--", "--debug"]]


@pytest.mark.hostile
@pytest.mark.parametrize("command", [("graphufs.cli.main", "show", TINY), ("jobs", "list")])
def test_a_working_directory_that_was_removed_is_told(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TINY.parents[1]))  # of a checkout, which `python -m` would find here only
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    done = program(*command)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert b"the folder that this command was started in was removed" in done.stderr
