"""`graphufs migrate` of what version 0.1.0 left, and a step back, which is refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest

from graphufs.cli import migrate as migration
from graphufs.cli.migrate import migrate
from graphufs.data.manifest import COPY, Manifest
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.registry import event_files, registry
from graphufs.steps import run_step
from graphufs.storage import formats
from graphufs.storage.atomic import write_json
from graphufs.storage.checksums import read_checked, write_checked
from graphufs.storage.paths import Paths
from jobs.job.folder import JobFolder
from jobs.job.reading import Broken
from jobs.site import load
from jobs.submission import submit
from tests.formats.test_formats_of_0_1_0 import CHAMPION, contents, tiny_of
from tests.golden.formats.unpack import unpack


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A root that 0.1.0 left, to be copied."""
    return unpack(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def root(kept, tmp_path):
    """The same, to work in; without what is large and not looked at."""
    large = shutil.ignore_patterns("*.zarr", "segments", "mlflow")
    return shutil.copytree(kept, tmp_path / "root", symlinks=True, ignore=large)


def test_a_dry_run_names_what_would_be_done_and_does_nothing(root, capsys):
    before = contents(root)
    assert migrate(root, dry_run=True) == 0
    out = capsys.readouterr().out
    events = event_files.numbers(root)
    assert f"{len(events) + 1} changes would be made" in out and "registry: " in out and "job: " in out
    assert all(str(event_files.event_file(root, number)) in out for number in events)
    assert contents(root) == before


def test_it_is_done_once_and_everything_else_is_as_it_was(root, capsys):
    before = contents(root)
    assert migrate(root) == 0
    after = contents(root)
    assert {name: after[name] for name in before} == before, "nothing of 0.1.0 is rewritten"
    new = {name.rpartition("/")[2] for name in after.keys() - before.keys()}
    assert new == {COPY, *(f"{number:08d}.json" for number in event_files.numbers(root))}
    assert not event_files.damage(root) and registry.champion(root, "tiny").id == CHAMPION
    capsys.readouterr()
    assert migrate(root, json_=True) == 0 and json.loads(capsys.readouterr().out)["changes"] == []
    assert contents(root) == after
    assert migrate(root) == 0 and "nothing needs changing" in capsys.readouterr().out


def test_after_it_nothing_is_trained_again(kept, tmp_path, monkeypatch):
    root = shutil.copytree(kept, tmp_path / "root", symlinks=True)
    migrate(root)
    monkeypatch.chdir(root)
    assert run_step("train", tiny_of(root), root)["status"] == "unchanged"
    plan = run_step("plan_nightly", tiny_of(root), root)
    assert plan["model"] == CHAMPION and plan["initial_times"]


@pytest.fixture
def later(monkeypatch):
    """A version whose jobs have another format."""
    monkeypatch.setitem(formats.FORMATS, "job", 2)
    monkeypatch.setitem(migration.STEPS, ("job", 1), lambda content: {**content, "more_of": content.get("key")})
    return monkeypatch


def job_files(root):
    return [path for pattern in migration.PLACES["job"] for path in root.glob(pattern)]


@pytest.mark.parametrize("killed_at", [0, 1, 5])
def test_a_migration_that_is_killed_is_repeated_and_ends_as_one_that_was_not(root, later, killed_at, tmp_path):
    whole = shutil.copytree(root, tmp_path / "whole", symlinks=True)
    migrate(whole)
    made = []

    def kill(path, content):
        if len(made) == killed_at:
            raise KeyboardInterrupt
        made.append(path)
        write_json(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration, "write_json", kill)
        with pytest.raises(KeyboardInterrupt):
            migrate(root)
    assert len(made) == killed_at and migrate(root) == 0
    assert contents(root) == contents(whole)
    assert {json.loads(path.read_text())["format"] for path in job_files(root)} == {2}


def test_a_step_back_over_files_of_jobs_is_refused_in_one_line(root, later):
    migrate(root)
    assert JobFolder(root, "live").require().key == "live" and JobFolder(root, "live").attempt().number == 1
    later.undo()
    with pytest.raises(Broken, match=r"live/intent.json cannot be read: it has format 2.*up to format 1; use the ver"):
        JobFolder(root, "live").require()
    before = contents(root)
    with pytest.raises(UserError, match=r"\.json names job|\.json cannot be read: it has format 2.*up to format 1"):
        migrate(root)
    assert contents(root) == before


def test_where_a_later_version_worked_an_earlier_one_makes_nothing_anew(root):
    experiment = tiny_of(root)
    with pytest.MonkeyPatch.context() as later:
        later.setitem(formats.FORMATS, "scores", 2)
        formats.require_root(root)
        formats.require_root(root)
    assert read_checked(root / formats.NOTE) == {"scores": 2}
    asked = submit.Request("train", experiment, "local", load("local"), root)
    for attempt in (lambda: run_step("train", experiment, root), lambda: submit.submit(asked), lambda: migrate(root)):
        with pytest.raises(UserError, match=r"formats.json cannot be read: it has format 2.*scores up to format 1"):
            attempt()
    write_json(root / formats.NOTE, {"aurora": 1})
    with pytest.raises(UserError, match="names aurora, format 1, which this version of graphufs does not know"):
        run_step("train", experiment, root)
    write_json(root / formats.NOTE, {"scores": 1})
    formats.require_root(root)


def test_outputs_of_a_later_format_are_named_and_nobody_is_told_to_remove_them(root):
    paths = Paths(tiny_of(root), root)
    (meta, *_) = sorted(paths.checkpoints.glob("*/meta.json"))
    event = event_files.event_file(root, 1)
    for path, read in (
        (paths.data / "manifest.json", lambda: Manifest.read(paths.data)),
        (meta, lambda: checkpoint.read_meta(meta.parent)),
        (event, lambda: registry.history(root)),
    ):
        write_checked(path, {**read_checked(path), "format": 9})
        with pytest.raises(UserError) as refused:
            read()
        words = str(refused.value)
        assert str(path) in words and "format 9" in words and "up to format" in words and "remove" not in words
        with pytest.raises(UserError, match="format 9"):
            migrate(root, dry_run=True)


def test_what_cannot_be_read_is_named_and_does_not_hold_up_the_rest(root, capsys):
    (root / "jobs" / "live" / "intent.json").write_text("")
    assert migrate(root) == 1
    told = capsys.readouterr()
    assert "live/intent.json cannot be read and is left" in told.err and "changes made" in told.out
    with pytest.raises(UserError, match="there is no folder"):
        migrate(root / "nowhere")
