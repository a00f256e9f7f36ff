"""Zarr stores: opened, and written atomically in WeatherBench2's layout."""

from __future__ import annotations

import itertools
import json
import sqlite3  # noqa: F401  before xarray loads cfgrib where that is installed: see docs/decisions.md
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs import reading
from graphufs.errors import CannotOpen, UserError
from graphufs.storage.atomic import new_folder
from graphufs.storage.checksums import Damaged, Files, differences, files_of, listed, read_checked, write_checked

LEAD_ENCODING = {"units": "hours", "dtype": "int64"}
"""How leads and other durations are stored. xarray adds the attribute dtype="timedelta64[ns]", without which newer
versions read plain integers."""
TIME_ENCODING = {"units": "hours since 1970-01-01", "dtype": "int64"}
MARK = ".zmetadata"
"""The file that makes a folder a complete store: the consolidated metadata, with the checksums of all other files."""
MOST_COORDINATES = 10_000_000
"""Values of a coordinate: more than a millennium of hours."""


def is_remote(address: Path | str) -> bool:
    """Whether an address is reached through fsspec rather than as a plain path."""
    return "://" in str(address)


def open_zarr(
    address: Path | str,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    *,
    what: str = "a zarr store",
    **decoding: Any,
) -> xr.Dataset:
    """Open a zarr store (format 2 or 3) at a path or any address fsspec knows, lazily and without dask.

    A path may be that of a zip file with the store at its root, or in the one folder there. The group is the root where
    none is given; `storage_options` are fsspec's, for a remote address, and those of `object_stores.Patience` and
    `in_flight.Limits`; `what` is what messages call the store; `decoding` is what else `xarray.open_zarr` takes, such
    as `decode_cf`. A chunk that was cut off is an error when it is read.

    Raises
    ------
    CannotOpen
        If it cannot be opened.
    """
    # bring zarr, which not all that import this need
    from graphufs.storage import object_stores
    from graphufs.storage.chunks import whole_chunks

    whole_chunks.require()
    remote = is_remote(address)
    if remote:
        from graphufs.storage.chunks import partial_chunks

        partial_chunks.require()
    try:
        store, folder = zarr_store(address, storage_options)
        group = "/".join(filter(None, (folder, group))) or None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, in several lines: what matters is looked at later
            found = xr.open_zarr(store, group=group, chunks=None, create_default_indexes=False, **decoding)
            return _indexed(found, together=remote)
    except UserError as error:
        kind = CannotOpen if isinstance(error, object_stores.Unreachable) else UserError
        raise kind(f"cannot open {what}: {error}") from error
    # Each cloud client raises its own classes, which share no base below Exception.
    except Exception as error:
        hint = (
            "check the address and the network. A public bucket needs storage_options {token: anon} for gs:// and "
            "{anon: true} for s3://"
            if remote
            else "check the path, or make the store first"
        )
        reason = object_stores.reason(error)
        told = f"cannot open {what} at {reading.in_one_line(str(address))} ({reading.in_one_line(reason)}); {hint}"
        raise CannotOpen(told) from error


def zarr_store(address: Path | str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """What zarr opens for an address, to be read, and the folder in it where the store is: "" but for a zip file's.

    Raises
    ------
    UserError
        If the client of a remote address cannot be set up.
    OSError
        If a zip file cannot be read.
    """
    from graphufs.storage import object_stores, regular_files

    if is_remote(address):
        return object_stores.open_remote(
            str(address) if isinstance(address, Path) else address, storage_options or {}
        ), ""
    path = Path(address)
    if path.is_dir():
        return regular_files.RegularFiles(address, read_only=True), ""
    if path.is_file() and zipfile.is_zipfile(path):
        from zarr.storage import ZipStore

        with zipfile.ZipFile(path) as content:
            tops = {name.partition("/")[0] for name in content.namelist()}
        return ZipStore(path, mode="r"), tops.pop() if len(tops) == 1 else ""
    return address, ""


def _indexed(dataset: xr.Dataset, *, together: bool) -> xr.Dataset:
    """The dataset with the indexes that xarray makes by default, none of which it reads that is absurdly long.

    Far away, all that they are made of is asked for `together`.

    Raises
    ------
    ValueError
        If metadata of a few bytes claim a coordinate, or a chunk of one, that would fill the memory, or chunks of no
        length, by which nothing can be divided.
    """
    made = {}
    for name, variable in dataset.variables.items():
        if variable.size and 0 in (variable.encoding.get("chunks") or ()):
            raise ValueError(f"{name} claims chunks of the lengths {list(variable.encoding['chunks'])}")
    for name, coordinate in dataset.coords.items():
        if coordinate.dims == (name,):
            size = max(coordinate.size, *coordinate.encoding.get("chunks") or (0,))
            if size * max(1, coordinate.dtype.itemsize // 8) > MOST_COORDINATES:
                raise ValueError(
                    f"{name} claims {size:,} values of {coordinate.dtype.itemsize:,} bytes; {MOST_COORDINATES:,} of 8 "
                    "are allowed in a coordinate"
                )
            made[name] = coordinate.variable
    if together and made:
        with ThreadPoolExecutor(len(made)) as pool:
            list(pool.map(xr.Variable.load, made.values()))
    return dataset.assign_coords(xr.Coordinates(made))


def write_zarr(
    path: Path,
    groups: Mapping[str | None, xr.Dataset],
    chunks: Mapping[str, Mapping[str, int]] | None = None,
    *,
    begin: Callable[[Path], Files] | None = None,
) -> None:
    """Write the datasets of some groups (None is the root) as a zarr v2 store with consolidated metadata, atomically.

    A store already there is replaced. `chunks` has by variable the chunk length along some dimensions; others are one
    chunk. `begin` may put other groups into the folder first, and gives the checksums of its files that are known.
    """
    with new_folder(path) as temporary:
        known = {} if begin is None else begin(temporary)
        for group, dataset in groups.items():
            encoding = time_encoding(dataset)
            for name, array in dataset.variables.items():
                wanted = (chunks or {}).get(str(name), {})
                lengths = tuple(wanted.get(str(d), n) for d, n in array.sizes.items())
                encoding.setdefault(str(name), {})["chunks"] = lengths
            dataset.drop_encoding().to_zarr(
                temporary, group=group, mode="a", zarr_format=2, consolidated=True, encoding=encoding
            )
        add_checksums(temporary, known)


def add_checksums(path: Path, known: Mapping[str, tuple[int, int]] | None = None) -> None:
    """Note size and checksum of all files of a zarr v2 store in its consolidated metadata.

    Other readers of zarr pass over them there. Files whose entries are `known` are not read.
    """
    content = json.loads((path / MARK).read_text())
    write_checked(path / MARK, {**content, "files": files_of(path, without=MARK, known=known or {})})


def has_checksums(path: Path) -> bool:
    """Whether a zarr v2 store says what its files are: those written by earlier versions do not.

    Raises
    ------
    Damaged
        If what would say so is damaged.
    """
    return (path / MARK).is_file() and "files" in read_checked(path / MARK)


def store_damage(path: Path, *, thorough: bool | Callable[[str], bool] = True) -> str | None:
    """What is wrong with a zarr v2 store written here, or None; the first thing if it is more.

    Files are compared with the checksums in the consolidated metadata, or with their sizes only where not `thorough`,
    which may say so of each file by its path below the store.
    Where there are none, as in what earlier versions wrote, every chunk must be there.
    """
    try:
        content = read_checked(path / MARK)
        files = listed(content)
        found = _missing_chunks(path, content) if files is None else differences(path, files, thorough=thorough)
        return next(found, None)
    except FileNotFoundError:
        return f"{path / MARK} is missing"
    except (Damaged, OSError) as error:
        return str(error) if str(path) in str(error) else f"{path / MARK}: {error}"


def require_whole(path: Path, step: str) -> None:
    """See that a zarr v2 store written here is as it was written; `step` is what makes it again.

    Raises
    ------
    UserError
        If it is not.
    """
    if (damage := store_damage(path)) is not None:
        raise UserError(f"{path} is damaged ({damage}); `graphufs {step}` with this experiment makes it again")


def _missing_chunks(path: Path, content: Mapping[str, Any]) -> Iterator[str]:
    """Name the chunks that are not there, of arrays that cannot have one of NaN alone, which zarr does not write.

    Those are the variables of the root group, which are maps and scores, but for SEEPS' thresholds.
    """
    try:
        for name, array in content["metadata"].items():
            variable = name.removesuffix("/.zarray")
            if variable == name or "/" in variable or "seeps" in variable or array["fill_value"] != "NaN":
                continue
            counts = [-(-n // chunk) for n, chunk in zip(array["shape"], array["chunks"], strict=True)]
            separator = array.get("dimension_separator", ".")
            for index in itertools.product(*map(range, counts)):
                chunk = path / variable / (separator.join(map(str, index)) or "0")
                if not chunk.is_file():
                    yield f"{chunk} is missing"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        yield f"{path / MARK} is not the metadata of a store ({error!r})"


def time_encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """How the times and durations of a dataset are stored, by variable."""
    kinds = {"m": LEAD_ENCODING, "M": TIME_ENCODING}
    return {str(n): dict(kinds[a.dtype.kind]) for n, a in dataset.variables.items() if a.dtype.kind in kinds}


def level_coordinate(levels: np.ndarray) -> np.ndarray:
    """Levels [level] as WeatherBench2 writes them: whole numbers of hPa as int32; others stay as they are."""
    whole = np.all(levels == np.round(levels))
    return levels.astype(np.int32) if whole else levels
