"""Files that appear whole: by one writer alone, and so that a power failure takes nothing back."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from graphufs.registry import registry
from graphufs.storage import atomic
from tests.registry.test_registry import model


@pytest.fixture(params=[None, errno.EPERM, errno.EOPNOTSUPP], ids=["links", "EPERM", "EOPNOTSUPP"])
def file_system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, of a file system with hard links, and of two without."""

    def link(source: object, target: object) -> None:
        raise OSError(request.param, os.strerror(request.param), source, None, target)

    if request.param is not None:
        monkeypatch.setattr(os, "link", link)
    return tmp_path


def test_of_many_writers_one_alone_makes_a_file(file_system: Path) -> None:
    writers, rounds = 6, 15
    barrier = Barrier(writers)

    def write(writer: int) -> list[bool]:
        done = []
        for number in range(rounds):
            barrier.wait()
            done.append(atomic.create_text(file_system / f"claim-{number}", str(writer)))
        return done

    with ThreadPoolExecutor(writers) as threads:
        made = list(threads.map(write, range(writers)))
    for number in range(rounds):
        (winner,) = [writer for writer in range(writers) if made[writer][number]]
        assert (file_system / f"claim-{number}").read_text() == str(winner)
    assert not list(file_system.glob("*.tmp")) and not list(file_system.glob(".claim*"))


def test_a_registry_is_written_and_read_without_hard_links(file_system: Path) -> None:
    for update in range(3):
        registry.register(file_system, model(update), "test")
    assert [one.id for one in registry.models(file_system)] == ["demo-abc-0", "demo-abc-1", "demo-abc-2"]


def test_another_error_of_a_link_is_not_taken_for_a_file_system_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="No space"):
        atomic.create_text(tmp_path / "claim", "1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [atomic.write_text, atomic.create_text])
def test_the_name_is_on_disk_too_before_a_writer_goes_on(
    write: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = []
    monkeypatch.setattr(atomic, "fsync", lambda path: happened.append((path == tmp_path, (tmp_path / "file").exists())))
    write(tmp_path / "file", "content")  # type: ignore[operator]
    assert happened == [(False, False), (True, True)]  # the content before it has its name, the folder after
