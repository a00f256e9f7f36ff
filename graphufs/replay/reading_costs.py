"""How many bytes of a store are decoded, and how many travel, for the chunks that hold one stamp of a variable."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr


def chunk_row_bytes(
    variable: xr.Variable, vertical: str | None, levels: np.ndarray | None, *, travelling: bool = False
) -> int:
    """Decoded bytes of the chunks with one stamp at some levels [level], all where None: chunks come whole.

    With `travelling`, those that an object store is asked for, before compression: of chunks that Blosc compressed only
    the blocks that hold the levels, which are taken to be of the usual size.
    """
    chunks = variable.encoding.get("preferred_chunks", {})
    shape = {str(name): int(chunks.get(name, length)) for name, length in variable.sizes.items()}
    whole = variable.dtype.itemsize * math.prod(shape.values())
    across = [name for name in shape if name not in ("time", vertical)]
    count = math.prod(variable.sizes[name] / shape[name] for name in across)
    if vertical is None or levels is None:
        return int(whole * count * (variable.sizes[vertical] / shape[vertical] if vertical else 1))
    numbers, places = np.divmod(np.unique(levels), shape[vertical])
    if not travelling:
        return int(whole * count * np.unique(numbers).size)
    from graphufs.storage.chunks import partial_chunks  # brings zarr, which not all that import this need

    size = 0
    for number in np.unique(numbers):
        selection = [places[numbers == number] if name == vertical else slice(None) for name in shape]
        size += partial_chunks.bytes_read(
            list(shape.values()), selection, variable.dtype.itemsize, variable.encoding
        )  # fmt: skip
    return int(size * count)
