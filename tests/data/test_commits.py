"""Committing segments: each is a line beside the manifest, whoever dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphufs.data.channels import PreparedChannel
from graphufs.data.commits import Commits
from graphufs.data.manifest import COPY, JOURNALS, MANIFEST, Header, Manifest, Segment
from graphufs.errors import UserError
from graphufs.storage import formats

AXIS = np.arange(4.0)
HEADER = Header(6, "fv3", (PreparedChannel("tmp", 500.0, 505.65),), (), {}, AXIS, AXIS, AXIS)


class Killed(BaseException):
    pass


def segment(day: int) -> Segment:
    stamps = np.datetime64("2000-01-01", "ns") + np.timedelta64(day, "D") + np.arange(4) * np.timedelta64(6, "h")
    return Segment(f"{day}.zarr", stamps, {}, {"frames/zarr.json": (100 + day, day)})


def names(manifest: Manifest | None) -> list[str]:
    return [] if manifest is None else [one.name for one in manifest.segments]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Manifest(HEADER, static={}).write(tmp_path)
    return tmp_path


def killed(folder: Path, days: range) -> None:
    """Commit a segment a day, and die."""
    with pytest.raises(Killed), pytest.MonkeyPatch.context() as dying:
        dying.setattr(Commits, "__exit__", lambda *_: None)
        with Commits(folder, manifest(folder)) as commits:
            for day in days:
                commits.add(segment(day))
            raise Killed


def manifest(folder: Path) -> Manifest:
    found = Manifest.recover(folder)
    assert found is not None
    return found


def test_segments_count_as_they_come_and_at_rest_all_is_as_in_0_1_0(folder: Path) -> None:
    with Commits(folder, manifest(folder)) as commits:
        for day in (2, 0, 1):
            commits.add(segment(day))
            assert f"{day}.zarr" in names(Manifest.read(folder))
        assert json.loads((folder / MANIFEST).read_text())["format"] == 2
    assert names(Manifest.read(folder)) == ["0.zarr", "1.zarr", "2.zarr"] == names(commits.manifest)
    assert sorted(path.name for path in folder.iterdir()) == [COPY, MANIFEST]
    assert json.loads((folder / MANIFEST).read_text())["format"] == 1
    assert (folder / MANIFEST).read_bytes() == (folder / COPY).read_bytes()


def test_commits_write_what_their_lines_take(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is written whole at the first and at the end alone, and a line is of its own segment."""
    written: list[int] = []
    whole = Manifest.write

    def write(self: Manifest, folder: Path, **given: str) -> None:
        written.append(len(self.segments))
        whole(self, folder, **given)

    monkeypatch.setattr(Manifest, "write", write)
    sizes = []
    with Commits(folder, manifest(folder)) as commits:
        for day in range(300):
            commits.add(segment(day))
            if day in (29, 59, 299):
                sizes.append((folder / JOURNALS[MANIFEST]).stat().st_size)
    assert written == [0, 300]
    assert sizes[1] < 2.1 * sizes[0] and sizes[2] < 11 * sizes[0]
    assert len(names(Manifest.read(folder))) == 300


def test_an_earlier_version_refuses_a_manifest_with_a_journal(folder: Path) -> None:
    killed(folder, range(2))
    assert formats.later(json.loads((folder / MANIFEST).read_text())["format"], "data") is not None


def test_what_was_committed_before_a_kill_stays(folder: Path) -> None:
    killed(folder, range(3))
    assert names(Manifest.read(folder)) == ["0.zarr", "1.zarr", "2.zarr"] and Manifest.damage(folder) is None
    killed(folder, range(3, 5))
    assert len(names(Manifest.read(folder))) == 5 and Manifest.damage(folder) is None
    with Commits(folder, manifest(folder)) as commits:
        commits.add(segment(5), instead_of=[segment(0), segment(1)])
    found = manifest(folder)
    assert names(found) == ["2.zarr", "3.zarr", "4.zarr", "5.zarr"] and list(found.retired) == ["0.zarr", "1.zarr"]


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"0.zarr", b"9.zarr"))


def without_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))


@pytest.mark.parametrize("harm", [torn, changed, without_a_line, Path.unlink])
@pytest.mark.parametrize("name", JOURNALS.values())
def test_a_damaged_journal_has_a_copy(folder: Path, name: str, harm: Callable[[Path], None]) -> None:
    killed(folder, range(3))
    harm(folder / name)
    assert len(names(manifest(folder))) == 3
    # what an append left half in the copy is no damage: the commit was made
    assert (Manifest.damage(folder) is None) == (harm is torn and name == JOURNALS[COPY])
    if name == JOURNALS[MANIFEST] and harm is not torn:
        with pytest.raises(UserError, match=rf"prepared data are damaged: .*{name}.*`graphufs prepare`, it repairs"):
            Manifest.read(folder)
    with Commits(folder, manifest(folder)) as commits:
        commits.add(segment(3))
    assert len(names(Manifest.read(folder))) == 4 and Manifest.damage(folder) is None


def test_who_reads_while_a_journal_is_put_into_the_manifest_sees_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(folder, range(3))
    whole, read = manifest(folder), Manifest._of.__func__  # type: ignore[attr-defined]

    def meanwhile(cls: type[Manifest], content: dict[str, object]) -> Manifest:
        monkeypatch.setattr(Manifest, "_of", classmethod(read))
        whole.write(folder)
        found: Manifest = read(cls, content)
        return found

    monkeypatch.setattr(Manifest, "_of", classmethod(meanwhile))
    assert len(names(Manifest.read(folder))) == 3


def test_what_cannot_be_written_is_not_committed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with Commits(folder, manifest(folder)) as commits:
        commits.add(segment(0))
        with monkeypatch.context() as disk:
            disk.setattr("graphufs.storage.journal.os.fsync", full)
            with pytest.raises(OSError, match="No space"):
                commits.add(segment(1))
        commits.add(segment(2))
    assert names(Manifest.read(folder)) == ["0.zarr", "2.zarr"]
