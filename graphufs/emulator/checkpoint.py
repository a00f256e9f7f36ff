"""Checkpoints: a folder for each, with everything that a forecast or the rest of the training needs.

    <update>/meta.json      update, position, environment, experiment, provenance, and the SHA-256 of the files below
             emulator.npz   parameters, statistics, grid and levels: all that a forecast needs
             training.npz   the optimizer's state; and the parameters, where emulator.npz holds their average

A folder appears by one rename after its content is on disk, so whatever has a checkpoint's name is whole.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphufs.errors import UserError
from graphufs.storage import formats
from graphufs.storage.atomic import new_folder, remove_folder
from graphufs.storage.checksums import Damaged, read_checked, write_checked
from graphufs.storage.npz import read_npz

FORMAT = formats.FORMATS["checkpoint"]
FILES = ("emulator.npz", "training.npz")
RUN = re.compile("[0-9a-f]{12}")
"""What the folder of a run is called; a person's own copy of checkpoints may lie anywhere else."""

Arrays = Mapping[str, np.ndarray]


def flatten(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """The array leaves of a pytree, of any shape, as host copies, each named by its path below `prefix`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {prefix + jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


def unflatten(like: Any, arrays: Arrays, prefix: str, origin: Path) -> Any:
    """The pytree of the same structure as `like` with leaves from `arrays`.

    Raises
    ------
    UserError
        If a leaf is missing, unexpected, or of another shape or type.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [prefix + jax.tree_util.keystr(path) for path, _ in leaves]
    stored = {name for name in arrays if name.startswith(prefix)}
    if stored != set(names):
        missing, unexpected = sorted(set(names) - stored)[:3], sorted(stored - set(names))[:3]
        raise UserError(
            f"the checkpoint {origin} belongs to another network: {missing or 'nothing'} is missing and "
            f"{unexpected or 'nothing'} is in excess; use the experiment it was made with"
        )
    restored = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        array = arrays[name]
        if array.shape != jnp.shape(leaf) or array.dtype != jnp.result_type(leaf):
            raise UserError(
                f"the checkpoint {origin} belongs to another network: {name} is {array.dtype}{list(array.shape)}, "
                f"expected {jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
            )
        restored.append(jnp.asarray(array))
    return jax.tree_util.tree_unflatten(structure, restored)


def place(folder: Path, update: int) -> Path:
    """Where the checkpoint after `update` updates lies."""
    return folder / f"{update:08d}"


def save(folder: Path, update: int, emulator: Arrays, training: Arrays, meta: dict[str, Any]) -> Path:
    """Write the checkpoint after `update` updates and return its path."""
    path = place(folder, update)
    write(path, update, emulator, training, meta)
    return path


def write(path: Path, update: int, emulator: Arrays, training: Arrays, meta: dict[str, Any]) -> None:
    """Write a checkpoint as the folder `path`."""
    with new_folder(path) as temporary:
        digests = {}
        for name, arrays in zip(FILES, (emulator, training), strict=True):
            np.savez(temporary / name, **dict(arrays))  # type: ignore[arg-type]
            digests[name] = _sha256(temporary / name)
        write_checked(temporary / "meta.json", {"format": FORMAT, "update": update, **meta, "sha256": digests})


def updates(folder: Path) -> list[int]:
    """The updates after which there is a checkpoint, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def places(folder: Path) -> list[Path]:
    """The checkpoints of a folder, in the order of their updates."""
    return [place(folder, update) for update in updates(folder)]


def last(folder: Path) -> Path | None:
    """The last checkpoint of a folder; None where there is none."""
    there = places(folder)
    return there[-1] if there else None


def prune(folder: Path, keep: set[int]) -> None:
    """Remove all checkpoints but those to keep, and what processes killed while they removed one left."""
    for leftover in folder.glob(".*.trash"):
        shutil.rmtree(leftover, ignore_errors=True)
    for update in updates(folder):
        if update not in keep:
            remove(place(folder, update))


def remove(path: Path) -> None:
    """Remove a checkpoint, so that no half of it is ever seen under its name."""
    remove_folder(path)


def read_meta(path: Path) -> dict[str, Any]:
    """The checkpoint's meta.json.

    Raises
    ------
    UserError
        If `path` is not a checkpoint, is damaged, of a format this version does not read, or lies in the folder of
        another run or update than its own.
    """
    try:
        meta = _described(path)
    except (OSError, Damaged) as error:
        raise UserError(
            f"{path} is not a checkpoint: {error}; give a folder with meta.json and emulator.npz. Where a training "
            "wrote it, `graphufs train` goes on from the checkpoint before it"
        ) from None
    formats.require(path / "meta.json", meta.get("format", 1), "checkpoint")
    if meta.get("format") != FORMAT:
        raise UserError(
            f"the checkpoint {path} has format {meta.get('format')!r}; this version of graphufs reads {FORMAT}"
        )
    run = path.absolute().parent.parent.name
    own = meta["hashes"].get("run", run)
    if path.parent.name == "checkpoints" and RUN.fullmatch(run) and own != run:
        raise UserError(f"the checkpoint {path} belongs to the run {own}, not {run}; remove it from there")
    if path.name.isdecimal() and int(path.name) != meta["update"]:
        raise UserError(f"the checkpoint {path} is that of update {meta['update']}; remove it from there")
    return meta


def _described(path: Path) -> dict[str, Any]:
    """The content of meta.json, with what any checkpoint's has."""
    meta: dict[str, Any] = {"hashes": {}, **read_checked(path / "meta.json")}
    for name, kind in (("update", int), ("sha256", dict), ("hashes", dict)):
        if meta.get("format") == FORMAT and not isinstance(meta.get(name), kind):
            raise Damaged(f"{path / 'meta.json'} has no {name}")
    return meta


def damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint, or None; whose it is, `read_meta` says."""
    try:
        meta = _described(path)
    except FileNotFoundError:
        return f"{path / 'meta.json'} is missing"
    except (OSError, Damaged) as error:
        return str(error)
    if meta.get("format") == FORMAT:
        for name in FILES:
            if not (path / name).is_file():
                return f"{path / name} is missing"
            if _sha256(path / name) != meta["sha256"].get(name):
                return f"{path / name} has changed since it was written"
    return None


def read_arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one of the checkpoint's files, in the shapes they were saved with, after comparing its SHA-256.

    Raises
    ------
    UserError
        If the file is missing or not what was written.
    """
    file, expected = path / name, read_meta(path)["sha256"].get(name)
    if not file.is_file() or _sha256(file) != expected:
        raise UserError(
            f"{file} is damaged or missing; use another checkpoint. `graphufs train` goes on from the one before it"
        )
    return read_npz(file)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
