"""Thresholds of events: quantiles of the climatology at the valid time.

They are stored as X_quantile(quantile), or follow from the mean and X_std of a normal distribution (WeatherBench2,
thresholds.py: `QuantileThreshold` and `GaussianQuantileThreshold`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import xarray as xr
from scipy import special

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.weatherbench.climatology.store import Climatology
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.truth import FrameWindow

ThresholdMethod = Literal["quantile", "gaussian_quantile"]

QUANTILES = (0.1, 0.5, 0.9)
"""Those that are scored where nothing is said about them and the climatology is a normal distribution."""

NEAR = 0.01
"""How far a stored quantile may lie from one that is asked for."""

ENDINGS: dict[ThresholdMethod, str] = {"quantile": "_quantile", "gaussian_quantile": "_std"}


class Thresholds:
    """Reads the thresholds of some channels by valid time; those whose variable has none are left out.

    Where `quantiles` are not given, all that are stored are taken, or `QUANTILES`.

    Raises
    ------
    UserError
        If a quantile is not there, or no variable has any.
    """

    def __init__(
        self,
        climatology: xr.Dataset,
        channels: Sequence[Channel],
        grid: Grid,
        method: ThresholdMethod,
        quantiles: Sequence[float] = (),
    ) -> None:
        ending = ENDINGS[method]
        self.method = method
        self.positions = [at for at, (name, _) in enumerate(channels) if name + ending in climatology]
        """The positions of the channels that have thresholds."""
        if not self.positions:
            names = sorted({channel.variable for channel in channels})
            raise UserError(f"the climatology has no {names[0]}{ending}, nor that of another variable that is scored")
        own = [channels[at] for at in self.positions]
        of_ending = [Channel(name + ending, level) for name, level in own]
        if method == "quantile":
            self.quantiles, at = _stored(climatology, quantiles)
            readers = [Climatology(climatology.isel(quantile=one), of_ending, grid) for one in at]
            windows = [FrameWindow(reader.read) for reader in readers]
            self._read: Callable[[np.ndarray], np.ndarray] = lambda stamps: _by_channel(
                [window.frames(stamps) for window in windows]
            )
        else:
            self.quantiles = tuple(quantiles) or QUANTILES
            if wrong := [q for q in self.quantiles if not 0 < q < 1]:
                raise UserError(f"the quantile {wrong[0]:g} of a normal distribution must lie between 0 and 1")
            mean, std = (FrameWindow(Climatology(climatology, some, grid).read) for some in (own, of_ending))
            factors = special.ndtri(np.array(self.quantiles))[:, None, None, None]
            self._read = lambda stamps: np.moveaxis(
                mean.read(stamps)[:, None] + factors * std.read(stamps)[:, None], 2, 0
            )

    def read(self, stamps: np.ndarray) -> dict[int, np.ndarray]:
        """The thresholds at valid times, by the channel's position, each [time, threshold, lat, lon].

        Stored quantiles are float32, those of a normal distribution float64.
        """
        values = self._read(stamps)
        return {at: np.ascontiguousarray(values[number]) for number, at in enumerate(self.positions)}


def _by_channel(frames: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """One array [channel, time, threshold, lat, lon] of frames [channel, lat, lon] by threshold and time."""
    first = frames[0][0]
    found = np.empty((len(first), len(frames[0]), len(frames), *first.shape[1:]), first.dtype)
    for threshold, of_times in enumerate(frames):
        for time, frame in enumerate(of_times):
            found[:, time, threshold] = frame
    return found


def _stored(climatology: xr.Dataset, wanted: Sequence[float]) -> tuple[tuple[float, ...], list[int]]:
    """The quantiles, and where the climatology has them."""
    there = climatology["quantile"].values.astype(np.float64)
    asked = tuple(wanted) or tuple(there.tolist())
    nearest = [int(np.abs(there - quantile).argmin()) for quantile in asked]
    if lacking := [q for q, at in zip(asked, nearest, strict=True) if abs(there[at] - q) > NEAR]:
        raise UserError(
            f"the climatology has no quantile {lacking[0]:g}; it has {', '.join(f'{value:g}' for value in there)}"
        )
    return asked, nearest


def thresholds_in(
    climatology: xr.Dataset,
    channels: Sequence[Channel],
    grid: Grid,
    method: ThresholdMethod | None = None,
    quantiles: Sequence[float] = (),
) -> Thresholds | None:
    """The thresholds by the method that is asked for, or the first there is; None where nothing is asked for or there.

    Raises
    ------
    UserError
        If what is asked for is not there.
    """
    if method is None:
        endings = {known: ENDINGS[known] for known in get_args(ThresholdMethod)}
        there = [
            known for known, ending in endings.items() if any(name + ending in climatology for name, _ in channels)
        ]
        if not there:
            if quantiles:
                raise UserError(
                    "the climatology has neither X_quantile nor X_std of a scored variable X: no quantile can be scored"
                )
            return None
        method = there[0]
    return Thresholds(climatology, channels, grid, method, quantiles)
