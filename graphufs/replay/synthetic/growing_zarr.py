"""A zarr v2 store that grows along time in equal blocks and shows readers only what is committed.

Written straight from the format's specification (zarr-specs.readthedocs.io, version 2): each chunk is one file, and one
JSON document, `.zmetadata`, holds all shapes. A block's chunks are new files, so nothing committed is ever touched;
replacing `.zmetadata` in one rename is the commit, of a part of the last block too. A writer killed at any moment
leaves chunks that no shape covers, which the next attempt overwrites. One writer at a time: the caller holds a lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from graphufs.storage.atomic import write_bytes
from graphufs.storage.checksums import Damaged, checked_text, read_checked

GROWING = "time"
"""The dimension along which stores grow."""

# A chunk is one Blosc block (up to 4 MiB): threads would place several in whatever order they finish.
COMPRESSOR = Blosc(cname="zstd", clevel=3, shuffle=Blosc.BITSHUFFLE, blocksize=2**22)
METADATA = ".zmetadata"


@dataclass(frozen=True)
class Array:
    """An array of the store: its name, the names of its dimensions, its dtype, and its attributes."""

    name: str
    dimensions: tuple[str, ...]
    dtype: np.dtype[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grows(self) -> bool:
        """Whether the array has a time dimension (always its first)."""
        return GROWING in self.dimensions

    def metadata(self, sizes: Mapping[str, int], block: int) -> dict[str, Any]:
        """Return the content of its `.zarray` where the dimensions have these sizes; one chunk a block."""
        chunks = [block if name == GROWING else sizes[name] for name in self.dimensions]
        return {
            "zarr_format": 2,
            "shape": [sizes[name] for name in self.dimensions],
            "chunks": chunks,
            "dtype": self.dtype.str,
            "compressor": COMPRESSOR.get_config(),
            "fill_value": "NaN" if self.dtype.kind == "f" else None,
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
        }


def committed_length(path: Path) -> int:
    """How many times are committed in the store at `path`; 0 where there is none, or what says so is damaged."""
    try:
        return int(read_checked(path / METADATA)["metadata"][f"{GROWING}/.zarray"]["shape"][0])
    except (FileNotFoundError, Damaged, KeyError, TypeError, IndexError, ValueError):
        return 0


class GrowingZarr:
    """A store to write: its arrays, the sizes of the dimensions that do not grow, and its attributes.

    `block` is the number of times in a block. Arrays that do not grow are written with the first block.
    """

    def __init__(
        self, path: Path, arrays: tuple[Array, ...], sizes: Mapping[str, int], block: int, attributes: Mapping[str, Any]
    ) -> None:
        self.path = path
        self._arrays = arrays
        self._sizes = dict(sizes)
        self._block = block
        self._attributes = dict(attributes)

    def chunks(self, index: int) -> list[str]:
        """The paths, relative to the store, of the chunks that `write_block` writes for block number `index`."""
        arrays = [array for array in self._arrays if array.grows or not index]
        return ["/".join((a.name, str(index if a.grows else 0), *("0" for _ in a.dimensions[1:]))) for a in arrays]

    def write_block(self, index: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Write the chunks of block number `index`; readers do not see them before `commit`.

        `values` holds every growing array's block and, for the first block, the arrays that do not grow.

        Raises
        ------
        ValueError
            If an array's shape is not that of the store's blocks.
        """
        arrays = [array for array in self._arrays if array.grows or not index]
        for array, name in zip(arrays, self.chunks(index), strict=True):
            shape = tuple(self._block if one == GROWING else self._sizes[one] for one in array.dimensions)
            value = np.ascontiguousarray(values[array.name], array.dtype)
            if value.shape != shape:
                raise ValueError(f"{array.name} has shape {value.shape} where the store has {shape}")
            chunk = self.path / name
            chunk.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(chunk, COMPRESSOR.encode(value), alone=True)

    def commit(self, times: int) -> None:
        """Let readers see the first `times` times, whose blocks are all written before."""
        metadata: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": self._attributes}
        sizes = self._sizes | {GROWING: times}
        for array in self._arrays:
            metadata[f"{array.name}/.zarray"] = array.metadata(sizes, self._block)
            metadata[f"{array.name}/.zattrs"] = {"_ARRAY_DIMENSIONS": list(array.dimensions), **array.attributes}
        _publish(self.path, metadata)


def show(path: Path, times: int) -> None:
    """Let readers of a store see its first `times` times: more of its last block than before."""
    metadata = read_checked(path / METADATA)["metadata"]
    for name, content in metadata.items():
        if name.endswith("/.zarray") and GROWING in metadata[name.replace(".zarray", ".zattrs")]["_ARRAY_DIMENSIONS"]:
            content["shape"][0] = times
    _publish(path, metadata)


def _publish(path: Path, metadata: Mapping[str, Any]) -> None:
    # The separate files serve readers without consolidated metadata. Such readers may see a whole block early.
    for name, content in metadata.items():
        write_bytes(path / name, _json(content), alone=True)
    whole = checked_text({"zarr_consolidated_format": 1, "metadata": metadata})
    write_bytes(path / METADATA, whole.encode(), alone=True)


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()
