"""Zarr stores as anemoi-datasets and ufs2arco write them: one array of all variables, levels among their names.

`data` is (time, variable, ensemble, cell) beside `dates`, `latitudes` and `longitudes`; the attribute `variables` names
what lies along the second dimension. Dates in `missing_dates` are left out, as stamps that a Replay store lacks. The
statistics in the store are those of other periods, and are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr

from graphufs.errors import CannotOpen, UserError
from graphufs.replay.axes import decoded_times
from graphufs.sources.analysis import analysis
from graphufs.sources.cells import CellGrid, grid_of_cells
from graphufs.sources.lazy import Places, lazy_variable
from graphufs.storage.object_stores import reason
from graphufs.storage.zarr_io import zarr_store
from graphufs.vocabulary.analysis_names import name_and_level, weatherbench_name_of
from graphufs.vocabulary.variables import PRESSURE_LEVEL

ARRAYS = ("data", "dates", "latitudes", "longitudes")


def recognises(group: zarr.Group) -> bool:
    """Whether a zarr group has the arrays of this layout."""
    return all(name in group for name in ARRAYS)


def group_at(url: str, storage_options: Mapping[str, Any] | None) -> zarr.Group:
    """The zarr group at a URL, whatever it holds.

    Raises
    ------
    CannotOpen
        If there is none.
    """
    from graphufs.storage.chunks import whole_chunks

    whole_chunks.require()
    try:
        store, folder = zarr_store(url, storage_options)
        return zarr.open_group(store, path=folder or None, mode="r")
    # Each cloud client raises its own classes, which share no base below Exception.
    except Exception as error:
        raise CannotOpen(f"cannot open the source at {url} ({reason(error)}); check the address") from error


def opened(group: zarr.Group, url: str) -> xr.Dataset:
    """The variables of such a store, laid out as `graphufs.sources.analysis` says.

    Raises
    ------
    UserError
        If it is no such store, has several members, or its cells are no grid of latitudes and longitudes.
    """
    if not recognises(group):
        lacking = ", ".join(name for name in ARRAYS if name not in group)
        raise UserError(
            f"{url} is no store of anemoi-datasets or ufs2arco: these have the arrays {', '.join(ARRAYS)}, and it has "
            f"no {lacking}"
        )
    data: Any = group["data"]
    attributes: Mapping[str, Any] = group.attrs.asdict()
    names = [str(name) for name in attributes.get("variables") or ()]
    if data.ndim != 4 or data.shape[1] != len(names):
        raise UserError(
            f"data of {url} is {list(data.shape)} and its attribute variables has {len(names)} names; expected is "
            "(time, variable, ensemble, cell) with a name for each variable"
        )
    if data.shape[2] != 1:
        raise UserError(
            f"{url} holds {data.shape[2]} members along ensemble; one can be prepared. Write it to a store of its own"
        )
    _require_pressure_levels(attributes.get("variables_metadata"), url)
    vectors = [np.asarray(group[name][...]) for name in ARRAYS[2:]]  # type: ignore[index]
    if any(vector.size != data.shape[3] for vector in vectors):
        sizes = " and ".join(str(vector.size) for vector in vectors)
        raise UserError(f"{url} has {data.shape[3]} cells and {sizes} latitudes and longitudes; the store is damaged")
    grid = grid_of_cells(vectors[0], vectors[1], url)
    dates: Any = group["dates"]
    times = decoded_times(xr.Variable("time", dates[...], dict(dates.attrs)), url)
    if times.size != data.shape[0]:
        raise UserError(f"{url} has {times.size} dates for {data.shape[0]} fields; the store is damaged")
    there = np.flatnonzero(~np.isin(times, _missing(attributes.get("missing_dates"), url)))
    axes = {
        "time": xr.Variable("time", times[there]),
        "latitude": xr.Variable("latitude", grid.latitude),
        "longitude": xr.Variable("longitude", grid.longitude),
    }
    fields, levels = _fields(data, names, there, grid, url)
    if levels:
        axes[PRESSURE_LEVEL] = xr.Variable(PRESSURE_LEVEL, np.array(levels, np.float64), {"units": "hPa"})
    return analysis(xr.Dataset(fields).assign_coords(xr.Coordinates(axes, indexes={})), url)


def _fields(
    data: Any, names: list[str], there: np.ndarray, grid: CellGrid, url: str
) -> tuple[dict[str, xr.Variable], list[int]]:
    """The variables, those of one quantity on several levels as one, and these levels in hPa."""
    columns: dict[tuple[str, bool], dict[int | None, int]] = {}
    for place, own in enumerate(names):
        name, level = name_and_level(own)
        columns.setdefault((name, level is not None), {})[level] = place
    fields: dict[str, xr.Variable] = {}
    levels: list[int] = []
    first = ""
    for (own, on_levels), by_level in columns.items():
        mine = sorted(level for level in by_level if level is not None)
        if on_levels and levels and mine != levels:
            raise UserError(
                f"{own} of {url} is on the levels {', '.join(map(str, mine))}, and {first} on "
                f"{', '.join(map(str, levels))}; write a store in which all are on the same"
            )
        if on_levels and not levels:
            levels, first = mine, own
        name = weatherbench_name_of(own, levels=on_levels)
        if name in fields:
            raise UserError(f"{own} of {url} is {name}, which another variable is too; keep one of them")
        wanted = np.array([by_level[level] for level in mine] if on_levels else [by_level[None]])
        sizes = {"time": there.size, **({PRESSURE_LEVEL: len(mine)} if on_levels else {})}
        sizes |= {"latitude": grid.latitude.size, "longitude": grid.longitude.size}
        chunks = {"time": int(data.chunks[0]), **({PRESSURE_LEVEL: len(mine)} if on_levels else {})}
        read = _reader(data, wanted, there, grid.cells, on_levels=on_levels)
        fields[name] = lazy_variable(sizes, np.dtype(np.float32), read, {}, chunks)
    return fields, levels


def _reader(
    data: Any, columns: np.ndarray, there: np.ndarray, cells: np.ndarray, *, on_levels: bool
) -> Callable[[Places], np.ndarray]:
    def read(places: Places) -> np.ndarray:
        wanted, column = np.unique(columns[places[1]] if on_levels else columns, return_inverse=True)
        rows, row = np.unique(there[places[0]], return_inverse=True)
        values = np.asarray(data.oindex[rows, wanted, np.zeros(1, int), slice(None)], np.float32)[:, :, 0]
        values = values[row][:, column][:, :, cells[places[-2]][:, places[-1]]]
        return values if on_levels else values[:, 0]

    return read


def _require_pressure_levels(metadata: Any, url: str) -> None:
    """See that no variable is said to lie on model levels, or others than pressure levels, by a number alike."""
    for name, known in metadata.items() if isinstance(metadata, Mapping) else ():
        kind = known.get("mars", {}).get("levtype", "sfc") if isinstance(known, Mapping) else "sfc"
        if kind not in ("sfc", "pl", "o2d") and name_and_level(str(name))[1] is not None:
            raise UserError(
                f"{name} of {url} lies on levels of the type {kind}; only pressure levels (pl) and the surface can be "
                "prepared. Write a store with variables on pressure levels"
            )


def _missing(named: Any, url: str) -> np.ndarray:
    try:
        return np.array([str(date).removesuffix("Z") for date in named or ()], "datetime64[ns]")
    except (TypeError, ValueError) as error:
        raise UserError(
            f"missing_dates of {url} cannot be read ({error}); dates such as 2020-01-31T18 are meant"
        ) from error
