"""Variables that are read when their values are asked for: several along the time as one, and others than xarray's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from graphufs.replay.decoding import VALID, without_invalid

Places = tuple[np.ndarray, ...]
"""What to read along each dimension, int64 [n]."""


class _Lazy(BackendArray):
    """An array whose values a function reads."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, read: Callable[[Places], np.ndarray]) -> None:
        self.shape, self.dtype, self._read = shape, dtype, read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._outer)

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        places = [np.arange(n)[part] for part, n in zip(key, self.shape, strict=True)]
        values = self._read(tuple(np.atleast_1d(place).astype(np.int64) for place in places))
        return values.reshape([len(place) for place in places if place.ndim])


def lazy_variable(
    sizes: dict[str, int],
    dtype: np.dtype,
    read: Callable[[Places], np.ndarray],
    attributes: dict[str, Any],
    chunks: dict[str, int],
) -> xr.Variable:
    """A variable with dimensions of some lengths whose values `read` gives for places along each, in their order."""
    array = indexing.LazilyIndexedArray(_Lazy(tuple(sizes.values()), np.dtype(dtype), read))
    return xr.Variable(tuple(sizes), array, attributes, {"preferred_chunks": dict(chunks), "dtype": np.dtype(dtype)})


def joined(parts: Sequence[xr.Variable], dimension: str, order: np.ndarray, where: str) -> xr.Variable:
    """Variables that differ in nothing but their length along a dimension, as one along it.

    `order`, int64 [n], has for each place along it the one in the parts that are put one after the other. What CF's
    attributes of a part say is missing is NaN; `where` is what messages call the variable.
    """
    dims = [str(name) for name in parts[0].dims]
    axis = dims.index(dimension)
    ends = np.cumsum([part.sizes[dimension] for part in parts])
    dtype = np.result_type(*(part.dtype for part in parts))

    def read(places: Places) -> np.ndarray:
        wanted = order[places[axis]]
        found = np.empty([len(place) for place in places], dtype)
        part_of = np.searchsorted(ends, wanted, side="right")
        for number in np.unique(part_of):
            part, mine = parts[number], np.flatnonzero(part_of == number)
            within, back = np.unique(wanted[mine] - (ends[number] - part.sizes[dimension]), return_inverse=True)
            selection = {
                name: _compact(within if at == axis else place)
                for at, (name, place) in enumerate(zip(dims, places, strict=True))
            }
            values = without_invalid(part.isel(selection).transpose(*dims).values, part, where)
            found[(slice(None),) * axis + (mine,)] = np.take(values, back, axis)
        return found

    sizes = {name: order.size if name == dimension else parts[0].sizes[name] for name in dims}
    attributes = {name: value for name, value in parts[0].attrs.items() if name not in (*VALID, "missing_value")}
    return lazy_variable(sizes, dtype, read, attributes, parts[0].encoding.get("preferred_chunks", {dimension: 1}))


def _compact(places: np.ndarray) -> np.ndarray | slice:
    """Places as a slice where they follow one another, which is read faster."""
    first = int(places[0]) if places.size else 0
    return slice(first, first + places.size) if np.array_equal(places, first + np.arange(places.size)) else places
