"""Checksums: no byte changes, no file goes without being named."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs import reading
from graphufs.errors import UserError
from graphufs.storage.checksums import (
    Damaged,
    differences,
    forget_files,
    growing_damage,
    known_files,
    note_files,
    read_checked,
    write_checked,
)
from graphufs.storage.zarr_io import has_checksums, store_damage, write_zarr
from tests.support.earlier import as_before

CONTENT = {"format": 1, "name": "Grönland", "values": [0.1, None, True], "files": {"a/0": [3, 4]}}


def test_every_changed_byte_of_a_document_is_found(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_checked(path, CONTENT)
    assert read_checked(path) == CONTENT
    whole = path.read_bytes()
    for position in range(len(whole)):
        for change in (1, 32, 128):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ change]) + whole[position + 1 :])
            with pytest.raises(Damaged, match=r"note\.json"):
                read_checked(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            read_checked(path)


@pytest.mark.parametrize("text", ["[1, 2]", "null", "{", "[" * 100_000, '{"checked": true}', '{"a": 1, "crc32": 5}'])
def test_what_is_no_document_of_ours_is_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(Damaged):
        read_checked(tmp_path / "note.json")


def test_a_document_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text(json.dumps(CONTENT))
    assert read_checked(tmp_path / "note.json") == CONTENT


def test_a_document_written_twice_has_one_checksum(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_checked(path, CONTENT)
    write_checked(path, json.loads(path.read_text()) | {"more": 1})
    assert read_checked(path) == CONTENT | {"more": 1}


def store(path: Path) -> Path:
    fields = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    dataset = xr.Dataset(
        {"t": (("time", "lat", "lon"), fields), "s": 1.5}, {"time": np.arange(2)}, {"title": "a store"}
    )
    write_zarr(path, {None: dataset, "more": dataset}, {"t": {"time": 1}})
    return path


def test_every_damaged_file_of_a_store_is_named_and_other_readers_pass_over_the_list(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr")
    assert has_checksums(path) and store_damage(path) is None
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) > 20
    for file in files:
        whole = file.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            assert str(file) in str(store_damage(path))
        file.write_bytes(whole[:-1])
        assert str(file) in str(store_damage(path)) and str(file) in str(store_damage(path, thorough=False))
        file.unlink()
        assert store_damage(path, thorough=False) == f"{file} is missing"
        file.write_bytes(whole)
    assert xr.open_zarr(path, consolidated=True).equals(xr.open_zarr(path, consolidated=False))


def test_a_store_of_an_earlier_version_must_have_every_chunk(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr")
    as_before(path)
    assert not has_checksums(path) and store_damage(path) is None
    (path / "t" / "1.0.0").unlink()
    assert store_damage(path) == f"{path / 't' / '1.0.0'} is missing"


def test_a_folder_that_grows_knows_its_files(tmp_path: Path) -> None:
    assert growing_damage(tmp_path, promised=False) == [] and known_files(tmp_path) == {}
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name * 10)
    note_files(tmp_path, ["b", "a"])
    note_files(tmp_path, ["c"], instead_of=["a"])
    assert list(known_files(tmp_path)) == ["b", "c"] and growing_damage(tmp_path, promised=False) == []
    (tmp_path / "b").write_text("b" * 9 + "B")
    assert growing_damage(tmp_path, promised=False) == [f"{tmp_path / 'b'} has changed since it was written"]
    forget_files(tmp_path, ["b"])
    assert growing_damage(tmp_path, promised=False) == []
    (tmp_path / "checksums.json").write_text("{}")
    (tmp_path / "c").unlink()
    assert growing_damage(tmp_path, promised=False) == [], "no list, nothing known"
    (tmp_path / "checksums.json").write_text("{")
    assert "is not JSON" in growing_damage(tmp_path, promised=False)[0]
    (tmp_path / "checksums.json").unlink()
    assert growing_damage(tmp_path, promised=False) == []
    assert growing_damage(tmp_path, promised=True) == [f"{tmp_path / 'checksums.json'} is missing"]


@pytest.mark.parametrize("kind", ["FIFO", "a socket", "endless", "huge"])
def test_what_keeps_a_reader_waiting_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "note.json"
    if kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        path.touch()
        os.truncate(path, 2**40)
    else:
        os.mknod(path, 0o600 | (stat.S_IFIFO if kind == "FIFO" else stat.S_IFSOCK))
    with pytest.raises(OSError, match="not a file|are read"):
        read_checked(path)
    if kind != "huge":
        (line,) = differences(tmp_path, {path.name: (0, 0)}, thorough=True)
        assert line.startswith(f"{path} cannot be read (it is a ")
    with pytest.raises(UserError, match="not a file|more than"):
        reading.read_text(path)


def test_what_a_shell_puts_in_the_place_of_a_file_is_read() -> None:
    end, other = os.pipe()
    os.write(other, b"name: tiny")
    os.close(other)
    try:
        assert reading.read_text(Path(f"/dev/fd/{end}")) == "name: tiny"
    finally:
        os.close(end)
