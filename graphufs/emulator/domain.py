"""The domain: the grid, channels and static fields an emulator was made for, as they travel with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from graphufs.config.data import Data
from graphufs.data.channels import PreparedChannel, variable_slices
from graphufs.data.dataset import PreparedData

_PRESSURE_LEVELS = "domain.on_pressure_levels"
"""Only there where it is true, so that checkpoints of Replay are what they were."""


@dataclass(frozen=True)
class Domain:
    """Where an emulator's fields live: parts of `PreparedData`, of the same names, orders and shapes."""

    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    parent_latitude: NDArray[np.float64]
    channels: tuple[PreparedChannel, ...]
    mask: NDArray[np.bool_]
    static: dict[str, NDArray[np.float32]]
    on_pressure_levels: bool = False
    """Whether levels are surfaces of constant pressure, not layers that follow the ground."""

    @classmethod
    def of(cls, data: PreparedData) -> Domain:
        """The domain of prepared data."""
        return cls(**{field.name: getattr(data, field.name) for field in fields(cls)})

    @classmethod
    def outline(
        cls,
        latitude: np.ndarray,
        longitude: np.ndarray,
        channels: tuple[PreparedChannel, ...],
        static: Iterable[str],
        mask: NDArray[np.bool_] | None = None,
        *,
        on_pressure_levels: bool = False,
    ) -> Domain:
        """A domain before its data are prepared: static fields are zeros, and without a mask all exists everywhere."""
        latitude, longitude = (np.asarray(axis, np.float64) for axis in (latitude, longitude))
        shape = latitude.size, longitude.size
        everywhere = np.ones((len(channels), *shape), bool)
        return cls(
            latitude=latitude,
            longitude=longitude,
            parent_latitude=latitude,
            channels=channels,
            mask=everywhere if mask is None else mask,
            static=dict.fromkeys(static, np.zeros(shape, np.float32)),
            on_pressure_levels=on_pressure_levels,
        )

    @property
    def slices(self) -> dict[str, slice]:
        """The channels of each time-varying variable."""
        return variable_slices(self.channels)

    def levels(self, variable: str) -> tuple[tuple[float, float], ...]:
        """The (wanted, native) levels of a variable, empty for one without levels."""
        return tuple(
            (channel.level, channel.native)
            for channel in self.channels
            if channel.variable == variable and channel.level is not None and channel.native is not None
        )

    def masks(self, data: Data) -> dict[str, NDArray[np.bool_]]:
        """Bool [level, lat, lon] of the experiment's variables that do not exist everywhere."""
        masks = {name: self.mask[part] for name, part in self.slices.items() if name in data.stored_variables}
        return {name: mask for name, mask in masks.items() if not mask.all()}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything as named arrays, for a checkpoint."""
        missing = [(channel.level, channel.native) for channel in self.channels]
        return {
            "domain.latitude": self.latitude,
            "domain.longitude": self.longitude,
            "domain.parent_latitude": self.parent_latitude,
            "domain.channels": np.array([channel.variable for channel in self.channels]),
            "domain.levels": np.array(missing, dtype=np.float64),  # None becomes NaN
            "domain.mask": self.mask,
            **{f"domain.static.{name}": field for name, field in self.static.items()},
            **({_PRESSURE_LEVELS: np.array(True)} if self.on_pressure_levels else {}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Domain:
        """The inverse of `arrays`."""
        channels = [
            PreparedChannel(str(name)) if np.isnan(level) else PreparedChannel(str(name), float(level), float(native))
            for name, (level, native) in zip(arrays["domain.channels"], arrays["domain.levels"], strict=True)
        ]
        prefix = "domain.static."
        return cls(
            latitude=arrays["domain.latitude"].astype(np.float64),
            longitude=arrays["domain.longitude"].astype(np.float64),
            parent_latitude=arrays["domain.parent_latitude"].astype(np.float64),
            channels=tuple(channels),
            mask=arrays["domain.mask"].astype(np.bool_),
            static={
                name.removeprefix(prefix): field.astype(np.float32)
                for name, field in arrays.items()
                if name.startswith(prefix)
            },
            on_pressure_levels=bool(arrays.get(_PRESSURE_LEVELS, False)),
        )
