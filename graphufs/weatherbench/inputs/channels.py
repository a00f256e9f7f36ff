"""Channels: how the variables and levels of a dataset line up as one axis of a plain array.

Scoring works on arrays [..., channel, lat, lon] with one channel for each variable and level; datasets in
WeatherBench2's layout keep a variable's levels on a dimension of their own. This module goes from one to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.storage.zarr_io import level_coordinate


class Channel(NamedTuple):
    """A variable at a level (None for a surface variable), in WeatherBench2's names."""

    variable: str
    level: float | None = None

    def __str__(self) -> str:
        return self.variable if self.level is None else f"{self.variable} {self.level:g}"


VECTORS = {
    "wind_vector": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_vector": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
}
"""Vectors that are scored as one, by WeatherBench2's name, with their components."""


def vectors_in(channels: Sequence[Channel]) -> dict[Channel, tuple[int, ...]]:
    """The vectors whose components are all among the channels, with the positions of these."""
    found = {}
    for name, components in VECTORS.items():
        for channel in channels:
            if channel.variable == components[0]:
                wanted = [Channel(component, channel.level) for component in components]
                if all(component in channels for component in wanted):
                    found[Channel(name, channel.level)] = tuple(map(channels.index, wanted))
    return found


def channels_of(
    dataset: xr.Dataset, variables: Iterable[str] | None = None, levels: Iterable[float] | None = None
) -> tuple[Channel, ...]:
    """The channels of a dataset in WeatherBench2's layout, by variable and level, both ascending.

    All levels, and all variables that lie on latitude and longitude, or those named.

    Raises
    ------
    UserError
        If a variable or level is not there.
    """
    there = sorted(str(name) for name, array in dataset.items() if {"latitude", "longitude"} <= set(array.dims))
    names = there if variables is None else sorted(set(variables))
    if lacking := [name for name in names if name not in there]:
        raise UserError(f"no variable {', '.join(lacking)}; there are {', '.join(there) or 'none on a grid'}")
    channels: list[Channel] = []
    for name in names:
        if "level" not in dataset[name].dims:
            channels.append(Channel(name))
            continue
        values = sorted(float(value) for value in dataset["level"].values)
        wanted = values if levels is None else sorted(set(map(float, levels)))
        if lacking_levels := [f"{level:g}" for level in wanted if level not in values]:
            raise UserError(
                f"{name} has no level {', '.join(lacking_levels)}; its levels are {', '.join(f'{v:g}' for v in values)}"
            )
        channels += [Channel(name, level) for level in wanted]
    return tuple(channels)


def pack(
    dataset: xr.Dataset,
    channels: Sequence[Channel],
    leading: Sequence[str],
    at: Mapping[str, int | slice | np.ndarray] | None = None,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """The values of a dataset as one array, float32 [*leading, channel, lat, lon].

    Its variables lie on `leading`, [level], latitude and longitude, in any order of dimensions; one that has no leading
    dimension is repeated along it. `at` has positions to take along some dimensions, as for `isel`: quicker than
    selecting from the dataset first, which takes coordinates and indexes along. `into` is an array to use up where it
    has the right shape, so that two such arrays need not be there at once.

    Raises
    ------
    UserError
        If there are no channels.
    """
    packed: np.ndarray | None = None
    where: dict[str, list[tuple[int, float | None]]] = {}
    for position, channel in enumerate(channels):
        where.setdefault(channel.variable, []).append((position, channel.level))
    for name, places in where.items():
        variable = dataset.variables[name]
        variable = variable.isel({dim: taken for dim, taken in (at or {}).items() if dim in variable.dims})
        positions: Any = [position for position, _ in places]
        if "level" in variable.dims:
            levels = [index_of_level(dataset, level) for _, level in places]
            if levels != list(range(variable.sizes["level"])):
                variable = variable.isel(level=levels)
        order = [dim for dim in (*leading, "level", "latitude", "longitude") if dim in variable.dims]
        values = variable.values.transpose([variable.dims.index(dim) for dim in order])
        if packed is None:
            sizes = [len(np.arange(dataset.sizes[dim])[(at or {}).get(dim, slice(None))]) for dim in leading]
            shape = (*sizes, len(channels), *values.shape[-2:])
            packed = into if into is not None and into.shape == shape else np.empty(shape, np.float32)
        if "level" not in variable.dims:
            values = values[..., None, :, :]
        for axis, dim in enumerate(leading):
            if dim not in variable.dims:
                values = np.expand_dims(values, axis)
        if positions == list(range(positions[0], positions[0] + len(positions))):
            positions = slice(positions[0], positions[0] + len(positions))  # a plain copy, several times as fast
        packed[..., positions, :, :] = values
    if packed is None:
        raise UserError("no variable is asked for")
    return packed


def as_slice(positions: np.ndarray) -> slice | np.ndarray:
    """Ascending 1-D positions without a gap as a slice, which stores read faster; others as they are."""
    first = int(positions[0])
    whole = np.array_equal(positions, np.arange(first, first + len(positions)))
    return slice(first, first + len(positions)) if whole else positions


def index_of_level(dataset: xr.Dataset, level: float | None) -> int:
    """The position of a level in the dataset's `level` coordinate."""
    return int(np.flatnonzero(dataset.variables["level"].values.astype(np.float64) == level)[0])


def unpack(
    values: np.ndarray, channels: Sequence[Channel], dims: Sequence[str]
) -> tuple[dict[str, tuple[tuple[str, ...], np.ndarray]], dict[str, np.ndarray]]:
    """The variables of an array with the axes `dims`, one of them "channel", ready for `xr.Dataset`.

    For each variable its dimensions ("channel" replaced by "level", or gone for a surface variable) and values; and as
    the coordinate `level`, where there are any, the levels, ascending, the same for all variables. Where a variable has
    no such level, it is NaN.
    """
    axis = list(dims).index("channel")
    levels = np.array(sorted({channel.level for channel in channels if channel.level is not None}))
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for position, (name, level) in enumerate(channels):
        piece = values.take(position, axis=axis)
        if level is None:
            variables[name] = (tuple(dim for dim in dims if dim != "channel"), piece)
            continue
        if name not in variables:
            shape = [*values.shape[:axis], len(levels), *values.shape[axis + 1 :]]
            whole = np.full(shape, np.nan, values.dtype)
            variables[name] = (tuple("level" if dim == "channel" else dim for dim in dims), whole)
        target = variables[name][1]
        target[(slice(None),) * axis + (int(np.searchsorted(levels, level)),)] = piece
    return variables, {"level": level_coordinate(levels)} if levels.size else {}
