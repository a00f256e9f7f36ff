"""A forecast with any checkpoint from an analysis in a store: no experiment's data, no training.

The store has one of the layouts that analyses have as sources, such as WeatherBench2's: time, level, latitude and
longitude in any order, and the checkpoint's variables. Its grid must hold the checkpoint's points, in any order of
latitudes, from any longitude on; static fields the checkpoint takes from the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from graphufs.data.loader import Batch
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.emulator.forecast_layout import forecast_template, in_weatherbench_units
from graphufs.errors import UserError
from graphufs.forcings import derived_forcing
from graphufs.replay.units import variable_conversion
from graphufs.sources.kinds import open_analysis
from graphufs.vocabulary.physical_bounds import QUANTITIES
from graphufs.vocabulary.variables import DERIVED_FORCINGS, check_variables, other_names, weatherbench_name

SAME_PLACE = 1e-3
"""Degrees between coordinates that are meant to be equal; float32 has 3e-5 at 360."""


class Analysis:
    """The fields of a store on an emulator's grid and levels.

    Raises
    ------
    UserError
        If the store cannot be opened or lacks a variable, level or place.
    """

    def __init__(self, address: Path | str, emulator: ReplayEmulator) -> None:
        self.address, domain, data = str(address), emulator.domain, emulator.experiment.data
        if later := sorted(set(data.forcings) - set(DERIVED_FORCINGS)):
            raise UserError(f"the forcing {', '.join(later)} would be read at later times, which an analysis has not")
        self._dataset = open_analysis(self.address)
        self._others = other_names(map(str, self._dataset.data_vars))
        self._varying = [c for c in domain.channels if c.variable in data.inputs]
        self._channels = domain.channels
        check_variables([*{c.variable: None for c in self._varying}, *domain.static], self._names(), self.address)
        for name in ("latitude", "longitude", "time"):
            if name not in self._dataset.coords or self._dataset[name].ndim != 1:
                raise UserError(f"{self.address} has no coordinate {name} along that dimension; an analysis has one")
        self._places = {
            "latitude": self._find("latitude", domain.latitude),
            "longitude": self._find("longitude", domain.longitude, round_the_globe=True),
        }
        self.times = self._dataset["time"].values.astype("datetime64[ns]")

    def _names(self) -> list[str]:
        return [*map(str, self._dataset.data_vars), *self._others]

    def _find(self, name: str, wanted: NDArray[np.float64], *, round_the_globe: bool = False) -> NDArray[np.intp]:
        """The indices of a coordinate's wanted values."""
        distance = np.abs(self._dataset[name].values.astype(np.float64)[None] - wanted[:, None])
        if round_the_globe:
            distance = np.minimum(distance % 360, -distance % 360)
        if distance.shape[1] == 0 or (lacking := distance.min(axis=1) > SAME_PLACE).any():
            missing = wanted if distance.shape[1] == 0 else wanted[lacking]
            raise UserError(
                f"{self.address} has no {name} {', '.join(f'{value:g}' for value in missing[:3])}, which the "
                f"checkpoint's grid of {wanted.size} from {wanted[0]:g} to {wanted[-1]:g} has; regrid it first"
            )
        return distance.argmin(axis=1)

    def field(self, name: str, levels: Sequence[float], stamp: np.datetime64) -> NDArray[np.float32]:
        """A variable at a stamp, in the units of its name, float32 [level, lat, lon]; one level where it has none.

        Raises
        ------
        UserError
            If it has other dimensions or units, lacks a level, or has no value somewhere.
        """
        stored, factor = self._others.get(name, (name, 1.0))
        array = self._dataset[stored]
        in_units = variable_conversion(stored, str(array.attrs.get("units", "")), self.address)
        if "time" in array.dims:
            array = array.isel(time=int(np.flatnonzero(self.times == stamp)[0]))
        dims = ["level"] if levels else []
        if set(array.dims) != {*dims, "latitude", "longitude"}:
            found = ", ".join(map(str, self._dataset[stored].dims))
            raise UserError(
                f"{name} of {self.address} has the dimensions {found}; wanted are time, "
                f"{'level, ' if levels else ''}latitude, longitude"
            )
        if levels:
            own = self._dataset["level"].values.astype(np.float64)
            if lacking := [f"{level:g}" for level in levels if level not in own]:
                raise UserError(
                    f"{name} of {self.address} has no level {', '.join(lacking)} (hPa); it has {own.tolist()}"
                )
            array = array.isel(level=[int(np.flatnonzero(own == level)[0]) for level in levels])
        values = array.transpose(*dims, "latitude", "longitude").values.astype(np.float32)
        values = values[..., self._places["latitude"], :][..., self._places["longitude"]]
        if not np.isfinite(values).all():
            raise UserError(
                f"{name} of {self.address} at {stamp.astype('datetime64[h]')} has no value at "
                f"{int((~np.isfinite(values)).sum())} points; take another initial time or store"
            )
        values = in_units.apply(values) * np.float32(factor)
        return values if levels else values[None]

    def frame(self, stamp: np.datetime64) -> NDArray[np.float32]:
        """All channels at a stamp, float32 [channel, lat, lon]; those that are only predicted are NaN."""
        shape = (len(self._channels), len(self._places["latitude"]), len(self._places["longitude"]))
        frame = np.full(shape, np.nan, np.float32)
        for name in dict.fromkeys(channel.variable for channel in self._varying):
            places = [i for i, channel in enumerate(self._channels) if channel.variable == name]
            levels = [level for i in places if (level := self._channels[i].level) is not None]
            frame[places] = self.field(name, levels, stamp)
        return frame

    def units(self, name: str) -> dict[str, str]:
        """What is said of a variable's units, where anything is."""
        units = str(self._dataset[name].attrs["units"]) if name in self._dataset.data_vars else ""
        return {"units": QUANTITIES[name].units if name in QUANTITIES else units} if units else {}


def forecast_from_analysis(
    emulator: ReplayEmulator, analysis: Path | str, initial_times: Sequence[np.datetime64], steps: int
) -> xr.Dataset:
    """Forecasts from the stamps of an analysis, in WeatherBench2's layout; one rollout after the other.

    Raises
    ------
    UserError
        If the analysis cannot be opened or lacks a variable, level, place or stamp.
    """
    data, domain = emulator.experiment.data, emulator.domain
    store = Analysis(analysis, emulator)
    times = np.array(initial_times, "datetime64[ns]")
    step = np.timedelta64(data.time_step, "h")
    stamps = times[:, None] + np.arange(1 - data.input_frames, steps + 1) * step
    needed = np.unique(stamps[:, : data.input_frames])
    if (missing := needed[~np.isin(needed, store.times)]).size:
        raise UserError(
            f"{store.address} has no stamp {', '.join(str(time.astype('datetime64[h]')) for time in missing[:3])}; "
            f"a forecast needs its initial time and {data.input_frames - 1} before, {data.time_step} h apart"
        )
    # static fields and forecasts are of one grid: an emulator for this analysis
    static = {name: store.field(name, (), needed[0])[0] for name in domain.static}
    ready = replace(emulator, domain=replace(domain, static=static))
    dataset = forecast_template(ready.experiment, ready.domain, times, steps)
    results: dict[str, list[NDArray[np.float32]]] = {}
    for window in stamps:
        for name, values in in_weatherbench_units(ready.predict(_batch(ready, store, window))).items():
            results.setdefault(name, []).append(values)
    for name, parts in results.items():
        dataset[name] = dataset[name].copy(data=np.concatenate(parts).reshape(dataset[name].shape))
    for channel in domain.channels:
        name = weatherbench_name(channel.variable)
        if name in dataset and channel.level == channel.native:  # levels of pressure, as they were asked for
            dataset[name].attrs = {k: v for k, v in dataset[name].attrs.items() if k != "vertical"} | store.units(name)
    if all(channel.level == channel.native for channel in domain.channels):
        dataset = dataset.drop_vars("native_level", errors="ignore")
    return dataset.assign_attrs(source=store.address)


def _batch(emulator: ReplayEmulator, store: Analysis, window: NDArray[np.datetime64]) -> Batch:
    """The frames of one initial time, those after the input frames NaN, and the derived forcings of all."""
    data, domain = emulator.experiment.data, emulator.domain
    frames = [store.frame(stamp) for stamp in window[: data.input_frames]]
    later = [np.full_like(frames[0], np.nan)] * (len(window) - data.input_frames)
    names = (set(data.inputs) | set(data.forcings)) & set(DERIVED_FORCINGS)
    derived: dict[str, Any] = {
        name: derived_forcing(name, window, domain.latitude, domain.longitude, data.tisr_period)[None]
        for name in sorted(names)
    }
    return Batch(np.stack([*frames, *later])[None], derived)
