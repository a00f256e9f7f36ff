"""Any checkpoint as a prognostic model of NVIDIA's Earth2Studio, for its workflows, data sources and perturbations.

fields = PreparedFields.open("graphufs-root/data/<hash>")
model = Emulator.from_checkpoint("graphufs-root/runs/demo/<hash>/checkpoints/00003200", source=fields)
earth2studio.run.deterministic(["1995-01-01T06"], 20, model, fields, ZarrBackend("out.zarr"))

Earth2Studio and its PyTorch only carry the fields; what computes is JAX, on the device that `to` names.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from graphufs.data.channels import variable_slices
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import Batch
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.forcings import derived_forcing
from graphufs.integrations.earth2studio_names import field_of, fields_of, vertical_of
from graphufs.vocabulary.variables import DERIVED_FORCINGS

try:
    import torch
    from earth2studio.data import fetch_data
    from earth2studio.models.px.utils import PrognosticMixin
    from earth2studio.utils.coords import handshake_coords, handshake_dim, map_coords
except ImportError as error:
    raise UserError(
        f"this needs Earth2Studio, which is not installed ({error}); pip install 'graphufs[job,earth2studio]' brings it"
    ) from error

Coordinates = OrderedDict[str, NDArray[Any]]
"""Earth2Studio's coordinates of a tensor: values by dimension, in the dimensions' order."""
DIMENSIONS = ("time", "lead_time", "variable", "lat", "lon")
"""The last ones of every tensor; what comes before them (`ensemble`, `batch`) is carried along."""


class Emulator(PrognosticMixin):
    """A trained emulator as Earth2Studio's PrognosticModel.

    Tensors are [..., time, lead_time, variable, lat, lon]. Inputs are the frames that the emulator begins from, the
    last at lead time 0; outputs its targets, one step later. Progress of day and year and the sun's radiation are
    computed here. A forcing that is read from data comes from `source` at later times, and so do static fields that
    the checkpoint has not. Of an ensemble model, member n of `ensemble` is the member n of our own forecasts, in
    batches of any size.

    Raises
    ------
    UserError
        If the emulator needs a `source` and there is none, or cannot make more than one step.
    """

    def __init__(self, emulator: ReplayEmulator, source: Any = None) -> None:
        data, self._domain = emulator.experiment.data, emulator.domain
        channels = self._domain.channels
        vertical = vertical_of(data.source.component, self._domain.on_pressure_levels)
        self._names, scales = zip(*fields_of(channels, vertical), strict=True)
        self._scales = np.array(scales, np.float32)[:, None, None]
        variables = [channel.variable for channel in channels]
        self._inputs = [i for i, name in enumerate(variables) if name in data.inputs]
        self._outputs = [i for i, name in enumerate(variables) if name in data.targets]
        self._forced = [i for i, name in enumerate(variables) if name in data.forcings]
        self._lacking = [name for name, field in self._domain.static.items() if not np.isfinite(field).all()]
        if unknown := sorted({variables[i] for i in self._inputs} - {*data.targets, *data.forcings}):
            raise UserError(
                f"{', '.join(unknown)} of {emulator.experiment.name} are inputs that change with time, but neither "
                "targets nor forcings: no forecast of several steps can be made"
            )
        if (needed := self.from_source) and source is None:
            raise UserError(
                f"{emulator.experiment.name} reads {', '.join(needed)} from data: give source, an Earth2Studio data "
                "source that has them, such as PreparedFields"
            )
        self._emulator, self._source = emulator, source
        self._step = np.timedelta64(data.time_step, "h").astype("timedelta64[ns]")
        self._frames, self._device = data.input_frames, None
        self._derived = lru_cache(64)(
            lambda name, stamp: derived_forcing(
                name, np.array([stamp]), self._domain.latitude, self._domain.longitude, data.tisr_period
            )[0]
        )

    @classmethod
    def from_checkpoint(cls, path: Path | str, source: Any = None) -> Self:
        """The emulator of a checkpoint folder.

        Raises
        ------
        UserError
            If there is no checkpoint, it is damaged, or it needs a `source`.
        """
        return cls(ReplayEmulator.from_checkpoint(path), source)

    def __str__(self) -> str:
        return f"graphufs-{self._emulator.experiment.name}"

    @property
    def from_source(self) -> list[str]:
        """Earth2Studio's names of what comes from the data source: forcings read from data, static fields not known."""
        return [*(self._names[i] for i in self._forced), *(field_of(name).name for name in self._lacking)]

    def input_coords(self) -> Coordinates:
        """What the model takes: `batch` and `time` are free."""
        leads = np.arange(1 - self._frames, 1) * self._step
        return self._coordinates(leads, self._inputs)

    def output_coords(self, input_coords: Coordinates) -> Coordinates:
        """What one step from inputs of these coordinates gives.

        Raises
        ------
        KeyError, ValueError
            If they are not the model's: Earth2Studio's own errors, which name the dimension.
        """
        own, relative = self.input_coords(), input_coords.copy()
        for place, name in enumerate(DIMENSIONS):
            handshake_dim(input_coords, name, place - len(DIMENSIONS))
        last = input_coords["lead_time"][-1:]
        relative["lead_time"] = input_coords["lead_time"] - last
        for name in DIMENSIONS[1:]:
            handshake_coords(relative, own, name)
        return self._outgoing(input_coords, last + self._step)

    def to(self, device: Any) -> Self:
        """Compute on a device, named as PyTorch does.

        Raises
        ------
        UserError
            If JAX has no such device.
        """
        wanted = torch.device(device)
        try:
            self._device = jax.devices("gpu" if wanted.type == "cuda" else wanted.type)[wanted.index or 0]
        except (RuntimeError, IndexError) as error:
            raise UserError(
                f"JAX, which computes this model, has no device {device}; it has {', '.join(map(str, jax.devices()))}. "
                "Name one of these, or install JAX for it"
            ) from error
        return self

    def __call__(self, x: torch.Tensor, coords: Coordinates) -> tuple[torch.Tensor, Coordinates]:
        """One step: [..., time, frames, inputs, lat, lon] to [..., time, 1, outputs, lat, lon].

        Raises
        ------
        KeyError, ValueError
            If the coordinates are not the model's.
        UserError
            If the source lacks what is needed.
        """
        after = self.output_coords(coords)
        times, leading = coords["time"].astype("datetime64[ns]"), x.shape[: x.ndim - len(DIMENSIONS)]
        now = times + coords["lead_time"][-1]
        count, rest = int(np.prod(leading)), x.shape[-len(DIMENSIONS) :]
        given = x.detach().cpu().numpy().reshape(count * len(times), *rest[1:])
        with self._on_device():
            emulator = self._ready(now)
            batch = self._batch(given, now, count)
            step = int(coords["lead_time"][-1] // self._step)
            members = self._members(coords, leading)
            drawn = [emulator.noise_of(member, times, 1, first=step) for member in members]
            noise = [one for one in drawn if one is not None]
            predictions = emulator.predict(batch, np.concatenate(noise) if noise else None)
        new = np.empty((len(given), len(self._names), *rest[-2:]), np.float32)
        for name, part in variable_slices(self._domain.channels).items():
            if name in predictions:
                new[:, part] = predictions[name][:, 0]
        new = (new * self._scales)[:, self._outputs]
        return torch.from_numpy(new).to(x.device).reshape(*leading, len(times), 1, *new.shape[1:]), after

    def create_iterator(self, x: torch.Tensor, coords: Coordinates) -> Iterator[tuple[torch.Tensor, Coordinates]]:
        """Step after step [..., time, 1, outputs, lat, lon], without end; first the outputs at the initial time.

        There, fields that are only predicted are NaN.

        Raises
        ------
        KeyError, ValueError
            If the coordinates are not the model's.
        UserError
            If the source lacks what is needed.
        """
        self.output_coords(coords)
        first = torch.full((*x.shape[:-4], 1, len(self._outputs), *x.shape[-2:]), torch.nan, device=x.device)
        both = [i for i in self._outputs if i in self._inputs]
        first[..., _places(both, self._outputs), :, :] = x[..., -1:, _places(both, self._inputs), :, :].float()
        yield first, self._outgoing(coords, coords["lead_time"][-1:])
        while True:
            x, coords = self.front_hook(x, coords)
            new, after = self.rear_hook(*self(x, coords))
            x, coords = self._rolled(x, coords, new), coords.copy()
            coords["lead_time"] = np.concatenate([coords["lead_time"][1:], after["lead_time"]])
            yield new, after

    def _coordinates(self, leads: NDArray[np.timedelta64], fields: Sequence[int]) -> Coordinates:
        free = np.empty(0)
        variables = np.array([self._names[i] for i in fields])
        values = (free, free, leads, variables, self._domain.latitude, self._domain.longitude)
        return OrderedDict(zip(("batch", *DIMENSIONS), values, strict=True))

    def _outgoing(self, coords: Coordinates, lead: NDArray[np.timedelta64]) -> Coordinates:
        own = self._coordinates(lead, self._outputs)
        return OrderedDict((name, own[name] if name in DIMENSIONS[1:] else values) for name, values in coords.items())

    def _on_device(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._device is None else jax.default_device(self._device)

    def _members(self, coords: Coordinates, leading: Sequence[int]) -> list[int]:
        """The member's number of each place of the leading dimensions: that of `ensemble`, else counted."""
        names = list(coords)[: len(leading)]
        if "ensemble" not in names:
            return list(range(int(np.prod(leading))))
        at = names.index("ensemble")
        shape = [-1 if place == at else 1 for place in range(len(leading))]
        return [int(one) for one in np.broadcast_to(coords["ensemble"].reshape(shape), leading).ravel()]

    def _batch(self, given: NDArray[Any], now: NDArray[np.datetime64], count: int) -> Batch:
        """The window of each sample [leading * time] in our units and channels, its last frame the step's forcings."""
        frames = np.full((len(given), self._frames + 1, len(self._names), *given.shape[-2:]), np.nan, np.float32)
        frames[:, :-1, self._inputs] = given / self._scales[self._inputs]
        if self._forced:
            later = self._from_source(now + self._step, self._forced)
            frames[:, -1, self._forced] = np.tile(later / self._scales[self._forced], (count, 1, 1, 1))
        data = self._emulator.experiment.data
        names = sorted((set(data.inputs) | set(data.forcings)) & set(DERIVED_FORCINGS))
        windows = now[:, None] + np.arange(1 - self._frames, 2) * self._step
        derived = {
            name: np.tile([[self._derived(name, stamp) for stamp in window] for window in windows], (count, 1, 1, 1, 1))
            for name in names
        }
        return Batch(frames, derived)

    def _rolled(self, x: torch.Tensor, coords: Coordinates, new: torch.Tensor) -> torch.Tensor:
        """The inputs of the next step: the oldest frame dropped, what was predicted or is forced appended."""
        frame = torch.full_like(x[..., -1:, :, :, :], torch.nan)
        both = [i for i in self._outputs if i in self._inputs]
        frame[..., _places(both, self._inputs), :, :] = new[..., _places(both, self._outputs), :, :].to(frame.dtype)
        if forced := [i for i in self._forced if i in self._inputs]:
            stamps = coords["time"].astype("datetime64[ns]") + coords["lead_time"][-1] + self._step
            later = torch.from_numpy(self._from_source(stamps, forced)).to(frame)
            frame[..., _places(forced, self._inputs), :, :] = later[:, None]  # [time, 1, variable, lat, lon]
        return torch.cat([x[..., 1:, :, :, :], frame], dim=-4)

    def _from_source(self, stamps: NDArray[np.datetime64], fields: Sequence[int]) -> NDArray[np.float32]:
        """Fields at stamps as the source has them, float32 [time, variable, lat, lon]."""
        return self._fetched(stamps, [self._names[i] for i in fields])

    def _fetched(self, stamps: NDArray[np.datetime64], names: Sequence[str]) -> NDArray[np.float32]:
        x, coords = fetch_data(self._source, stamps, np.array(names), device="cpu")
        own = OrderedDict(lat=self._domain.latitude, lon=self._domain.longitude)
        x, _ = map_coords(x, coords, own)
        return x[:, 0].numpy().astype(np.float32)

    def _ready(self, now: NDArray[np.datetime64]) -> ReplayEmulator:
        """The emulator with all its static fields."""
        if self._lacking:
            fields = [field_of(name) for name in self._lacking]
            values = self._fetched(now[:1], [field.name for field in fields])[0]
            scaled = {
                name: one / np.float32(f.scale) for name, f, one in zip(self._lacking, fields, values, strict=True)
            }
            domain = replace(self._domain, static={**self._domain.static, **scaled})
            self._emulator, self._domain, self._lacking = replace(self._emulator, domain=domain), domain, []
        return self._emulator


class PreparedFields:
    """Prepared data as a data source of Earth2Studio."""

    def __init__(self, data: PreparedData) -> None:
        self._data = data
        fields = fields_of(data.channels, vertical_of(data.component, data.on_pressure_levels))
        self._places = {field.name: place for place, field in enumerate(fields)}
        self._scales = np.array([field.scale for field in fields], np.float32)[:, None, None]

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Those of a folder that `graphufs prepare` made.

        Raises
        ------
        UserError
            If nothing was prepared there, or it is damaged.
        """
        return cls(PreparedData.open(folder))

    def __call__(self, time: Any, variable: Any) -> xr.DataArray:
        """Fields [time, variable, lat, lon] under Earth2Studio's names and in its units.

        Raises
        ------
        UserError
            If there is no such field, or a stamp is not prepared.
        """
        times = np.atleast_1d(np.asarray(time, "datetime64[ns]"))
        names = [str(name) for name in np.atleast_1d(np.asarray(variable))]
        if unknown := [name for name in names if name not in self._places]:
            raise UserError(
                f"{self._data.folder} has no field {', '.join(unknown)}; by Earth2Studio's names it has "
                f"{', '.join(self._places)}"
            )
        places = [self._places[name] for name in names]
        values = self._data.read(times)[:, places] * self._scales[places]
        coords = {"time": times, "variable": names, "lat": self._data.latitude, "lon": self._data.longitude}
        return xr.DataArray(values, dims=list(coords), coords=coords)

    async def fetch(self, time: Any, variable: Any) -> xr.DataArray:
        """As a call, for those who wait for several sources at once: [time, variable, lat, lon]."""
        return await asyncio.to_thread(self, time, variable)


def _places(wanted: Sequence[int], among: Sequence[int]) -> list[int]:
    return [list(among).index(one) for one in wanted]
