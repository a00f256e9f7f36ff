"""Replay on pressure levels, from stores that hold whole columns: an observation store in WeatherBench2's layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from graphufs.errors import UserError
from graphufs.replay.pressure_levels import Layers, replay_layers, sigma_layers, to_pressure_levels
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import text
from graphufs.storage.atomic import new_folder
from graphufs.storage.zarr_io import level_coordinate, time_encoding
from graphufs.vocabulary.variables import BY_WEATHERBENCH, LAND_STATIC, check_variables, replay_name, weatherbench_scale

SURFACE_PRESSURE = "pressfc"


def write_pressure_levels(
    store: ReplayStore,
    path: Path,
    variables: Sequence[str],
    levels: Sequence[float],
    stamps: np.ndarray,
    *,
    sigma: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write variables at some stamps, those with layers interpolated to pressure levels; the store appears whole.

    One stamp is in memory at a time. Where a level lies below the lowest layer there is NaN, see `to_pressure_levels`.
    Variables have WeatherBench2's names, levels are in hPa, stamps datetime64 [time]; `sigma` says that the store's
    layers lie at constant fractions of the surface pressure, as those of the embedded world.

    Raises
    ------
    UserError
        If a variable or stamp is not there, or the store has a part of its layers only.
    """
    names = {name: replay_name(name) for name in sorted(set(variables))}
    if unknown := [name for name in names if name not in BY_WEATHERBENCH]:
        raise UserError(
            f"{', '.join(unknown)} is not a variable that Replay and WeatherBench2 share; there are "
            f"{', '.join(name for name, known in BY_WEATHERBENCH.items() if known.dimensions != 'static')}"
        )
    layered = [name for name, replay in names.items() if BY_WEATHERBENCH[name].dimensions == "levels"]
    check_variables([*names.values(), *([SURFACE_PRESSURE] if layered else [])], store.names, store.url)
    stamps = np.asarray(stamps, "datetime64[ns]")
    absent = stamps[~np.isin(stamps, store.times)]
    if absent.size or not stamps.size:
        raise UserError(f"{store.url} has no {text(absent[0]) if absent.size else 'stamp in this period'}")
    if layered and not levels:
        raise UserError(f"{', '.join(layered)} has layers: name the pressure levels to interpolate to")
    wanted = np.sort(np.asarray(levels, np.float64))
    layers, order = _column(store, names[layered[0]], sigma) if layered else (None, None)
    with new_folder(path) as temporary:
        group = _create(temporary, store, names, wanted, stamps)
        for number, stamp in enumerate(stamps):
            at = np.array([stamp])
            pressure = None
            if layers is not None:
                pressure = layers.pressure(store.read(SURFACE_PRESSURE, at)[0] / 100.0)
            for name, replay in names.items():
                if name in layered and pressure is not None:
                    fields = to_pressure_levels(store.read(replay, at, order)[0], pressure, wanted.tolist())
                else:
                    fields = store.read(replay, at)[0]
                group[name][number] = fields * np.float32(weatherbench_scale(replay))  # type: ignore[index]
            progress(number + 1, len(stamps))
        zarr.consolidate_metadata(str(temporary), zarr_format=2)


def _column(store: ReplayStore, name: str, sigma: bool) -> tuple[Layers, np.ndarray]:
    """The store's vertical coordinate, and the order of its layers from the top down."""
    dimension = store.facts(name).vertical
    if dimension is None:
        raise UserError(f"{name} of {store.url} has no layers")
    native = store.levels(dimension)
    order = np.argsort(native)
    if sigma:
        return sigma_layers(native[order]), order
    layers = replay_layers()
    whole = len(layers.reference)
    if len(native) != whole:
        raise UserError(
            f"{store.url} has {len(native)} of Replay's {whole} layers: a part of them cannot be interpolated to "
            "pressure levels. Take a store with whole columns (or say that they are sigma layers, as the embedded ones)"
        )
    layers.find(native[order].tolist())
    return layers, order


def _create(
    path: Path, store: ReplayStore, names: dict[str, str], levels: np.ndarray, stamps: np.ndarray
) -> zarr.Group:
    """The store with its coordinates, land-sea mask and empty variables."""
    place = {"latitude": store.latitude, "longitude": store.longitude}
    dataset = xr.Dataset(coords={"time": stamps, **place}, attrs={"source": store.url})
    dataset["latitude"].attrs["units"], dataset["longitude"].attrs["units"] = "degrees_north", "degrees_east"
    if levels.size:
        vertical = {"units": "hPa", "vertical": "pressure levels"}
        dataset = dataset.assign_coords(level=("level", level_coordinate(levels), vertical))
    if LAND_STATIC in store.names:
        dataset["land_sea_mask"] = (tuple(place), (store.read(LAND_STATIC) == 1).astype(np.float32))
    dataset.to_zarr(path, zarr_format=2, consolidated=False, encoding=time_encoding(dataset))
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    sizes = {"time": len(stamps), "level": len(levels), **{dim: len(values) for dim, values in place.items()}}
    for name in names:
        known = BY_WEATHERBENCH[name]
        dims = [dim for dim in sizes if dim != "level" or known.dimensions == "levels"]
        group.create_array(
            name,
            shape=tuple(sizes[dim] for dim in dims),
            chunks=tuple(1 if dim == "time" else sizes[dim] for dim in dims),
            dtype="float32",
            fill_value=np.nan,
            attributes={"_ARRAY_DIMENSIONS": dims, "units": known.units, "long_name": known.long_name},
        )
    return group
