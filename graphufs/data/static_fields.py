"""Static fields, and the mask of points that hold values, beside the prepared frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr

from graphufs.data.manifest import Header
from graphufs.errors import UserError
from graphufs.vocabulary.variables import LAND_SEA_MASK, LAND_STATIC

if TYPE_CHECKING:  # a reader needs neither, nor xarray
    from graphufs.data.selection import Selection
    from graphufs.replay.source import ReplayStore

MASK = "mask"
LOOKS = 5
"""Stamps looked at to tell land from flaws."""


def present_mask(store: ReplayStore, selection: Selection, stamps: np.ndarray) -> np.ndarray:
    """Where each channel holds values, bool [channel, lat, lon].

    The atmosphere is everywhere. In the ocean a point is land where it is NaN at every one of a few stamps spread over
    `stamps`; one flawed stamp among them does no harm.

    Raises
    ------
    UserError
        If an ocean variable is NaN everywhere at all of them.
    """
    mask = np.ones((len(selection.channels), store.latitude.size, store.longitude.size), bool)
    if store.component != "mom6" or not stamps.size:
        return mask
    looks = stamps[np.unique(np.linspace(0, stamps.size - 1, LOOKS).astype(int))]
    first = 0
    for name in selection.varying:
        levels = selection.levels.get(name)
        count = 1 if levels is None else levels.size
        seen = np.zeros((count, *mask.shape[1:]), bool)
        for stamp in looks:
            values = store.read(name, np.array([stamp]), levels)
            seen |= np.isfinite(values.reshape(seen.shape))
        for channel in range(count):
            if not seen[channel].any():
                raise UserError(
                    f"{name} ({selection.channels[first + channel].native} m) of {store.url} holds no value at any of "
                    f"{looks.size} stamps; take the variable or the level out of the experiment"
                )
        mask[first : first + count] = seen
        first += count
    return mask


def read_static_fields(store: ReplayStore, selection: Selection) -> dict[str, np.ndarray]:
    """The static fields, float32 [lat, lon] by name.

    Raises
    ------
    UserError
        If a field of the atmosphere has missing values.
    """
    fields = {name: store.read(name) for name in selection.static}
    for name, values in fields.items():
        flawed = int(np.size(values) - np.isfinite(values).sum())
        if flawed and (store.component != "mom6" or flawed == values.size):
            raise UserError(
                f"the static field {name} of {store.url} has no value at {flawed} of {values.size} points; it cannot "
                "be used. Take it out of data.inputs"
            )
    return fields


def land_fraction(fields: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The fraction of land, float64 [lat, lon], by the land mask among static fields; None where there is none.

    The mask has the name that the experiment gives it, so what it holds tells whose it is: fractions are an analysis's,
    and 2 is sea ice in Replay's.
    """
    mask = next((fields[name] for name in (LAND_STATIC, LAND_SEA_MASK) if name in fields), None)
    return None if mask is None else np.where(mask > 1.5, 0.0, np.clip(mask, 0.0, 1.0)).astype(np.float64)


def write_static(folder: Path, header: Header, mask: np.ndarray, fields: dict[str, np.ndarray]) -> None:
    """Write mask [channel, lat, lon] and fields [lat, lon] as a zarr group that xarray can open too."""
    group = zarr.create_group(str(folder), overwrite=True)
    arrays: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
        MASK: (mask, ("channel", "latitude", "longitude")),
        "latitude": (header.latitude, ("latitude",)),
        "longitude": (header.longitude, ("longitude",)),
        **{name: (values, ("latitude", "longitude")) for name, values in fields.items()},
    }
    for name, (values, dimensions) in arrays.items():
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, dimension_names=dimensions)
        array[...] = values
        if name in header.facts:
            array.attrs.update(header.facts[name].attributes)


def read_static(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The mask, bool [channel, lat, lon], and the static fields, float32 [lat, lon] by name.

    Raises
    ------
    UserError
        If they are not there, or cannot be read.
    """
    try:
        group = zarr.open_group(str(folder), mode="r")
        fields = {name: np.asarray(array[...]) for name, array in group.arrays()}
        mask = fields.pop(MASK)
    except FileNotFoundError as error:
        raise UserError(f"{folder} is missing; run prepare again") from error
    except Exception as error:  # codecs and parsers raise classes of their own
        raise UserError(
            f"{folder} is damaged ({type(error).__name__}: {error}); remove it and run `graphufs prepare`"
        ) from error
    return mask, {name: values for name, values in fields.items() if name not in ("latitude", "longitude")}
