"""Prepared frames as an xarray Dataset in WeatherBench2's names, units and layout: the truth of an evaluation.

Layout: dimensions (time, level, latitude, longitude), `level` the wanted level as integer hPa, with the native level
beside it, since the values lie on Replay's hybrid layers and are not interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from graphufs.data.channels import PreparedChannel
from graphufs.vocabulary.variables import BY_REPLAY, weatherbench_name, weatherbench_scale

if TYPE_CHECKING:
    from graphufs.data.dataset import PreparedData

BLOCK_BYTES = 64 * 2**20
"""Bytes of whole frames held while a few of their channels are copied out."""


def to_dataset(data: PreparedData, stamps: np.ndarray, variables: Sequence[str]) -> xr.Dataset:
    """Read variables at stamps into memory.

    Parameters
    ----------
    data
        Prepared data.
    stamps
        datetime64 [time].
    variables
        Replay names, time-varying or static.

    Raises
    ------
    UserError
        If a stamp or a variable is not there.
    """
    stamps = np.asarray(stamps, "datetime64[ns]")
    varying = [name for name in variables if name not in data.static]
    slices = {name: data.variable_slice(name) for name in varying}
    values = {
        name: np.empty((stamps.size, part.stop - part.start, *data.frame_shape[1:]), np.float32)
        for name, part in slices.items()
    }
    block = max(1, BLOCK_BYTES // (4 * int(np.prod(data.frame_shape))))
    buffer = np.empty((min(block, stamps.size), *data.frame_shape), np.float32)
    for first in range(0, stamps.size if varying else 0, block):
        rows = slice(first, min(first + block, stamps.size))
        frames = data.read(stamps[rows], buffer[: rows.stop - rows.start])
        for name, part in slices.items():
            np.multiply(frames[:, part], np.float32(weatherbench_scale(name)), out=values[name][rows])
    dataset = xr.Dataset(coords={"time": stamps, "latitude": data.latitude, "longitude": data.longitude})
    levels: dict[tuple[float, ...], tuple[PreparedChannel, ...]] = {}
    for name in varying:
        channels = data.channels[slices[name]]
        if channels[0].level is None:
            dataset[weatherbench_name(name)] = (("time", "latitude", "longitude"), values[name][:, 0])
        else:
            levels[tuple(channel.level or 0.0 for channel in channels)] = channels
            dataset[weatherbench_name(name)] = (("time", "level", "latitude", "longitude"), values[name])
    if levels:
        ((wanted, channels),) = levels.items()
        native = [channel.native or 0.0 for channel in channels]
        dataset = dataset.assign_coords(level_coordinates(wanted, native, data.component))
    for name in variables:
        if name in data.static:
            field = data.static[name] * np.float32(weatherbench_scale(name))
            dataset[weatherbench_name(name)] = (("latitude", "longitude"), field)
        dataset[weatherbench_name(name)].attrs = attributes(name, data.facts[name].attributes)
    return dataset


def level_coordinates(
    wanted: Sequence[float], native: Sequence[float], component: str = "fv3"
) -> dict[str, xr.DataArray]:
    """The coordinates `level` (wanted; integer where all are whole) and `native_level` of values on native levels."""
    levels = np.asarray(wanted, np.float64)
    if np.array_equal(levels, np.round(levels)):
        levels = levels.astype(np.int64)
    units, quantity = {"fv3": ("hPa", "reference pressure"), "mom6": ("m", "depth")}[component]
    notes = {"units": units, "vertical": "native model layers"}
    return {
        "level": xr.DataArray(levels, dims="level", attrs={"long_name": f"wanted {quantity}", **notes}),
        "native_level": xr.DataArray(
            np.asarray(native, np.float64),
            dims="level",
            attrs={"long_name": f"{quantity} of the native layer", **notes},
        ),
    }


def attributes(replay: str, given: dict[str, object]) -> dict[str, object]:
    """Attributes of a variable under its WeatherBench2 name: long name and units, and where it comes from."""
    known = BY_REPLAY.get(replay)
    if known is None:
        return {key: given[key] for key in ("long_name", "units") if key in given} | {"replay_name": replay}
    return {"long_name": known.long_name, "units": known.units, "replay_name": replay}
