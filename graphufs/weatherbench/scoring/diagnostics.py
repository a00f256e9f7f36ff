"""What averages over the globe hide: maps of the error and zonal spectra, at a few leads, as mergeable sums.

Kept beside the scores of the emulator. Maps have one value a point and spectra one a latitude and wavenumber, so they
are not kept by initial time as scores are, but as sums that know their initial times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.vocabulary.conventions import Convention
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.scoring.field_sums import FieldSums
from graphufs.weatherbench.scoring.maps import Maps
from graphufs.weatherbench.scoring.score import FORECAST
from graphufs.weatherbench.scoring.spectra import TRUTH, Spectra

MAPS = ("rmse", "bias")


class Diagnostics:
    """Maps and spectra of the emulator's forecasts at `leads`, some of `every_lead`; an `Observer` of `score`."""

    def __init__(
        self,
        channels: Sequence[Channel],
        grid: Grid,
        leads: np.ndarray,
        every_lead: np.ndarray,
        *,
        convention: Convention,
        skipna: bool = False,
    ) -> None:
        self.channels, self.grid, self.leads = tuple(channels), grid, np.asarray(leads, "timedelta64[ns]")
        self.convention, self.skipna = convention, skipna
        self._at = [int(np.flatnonzero(every_lead == lead)[0]) for lead in self.leads]
        self.maps = Maps(channels, grid, self.leads, metrics=MAPS, convention=convention, skipna=skipna)
        spacing = np.diff(grid.longitude)
        around = bool(np.abs(spacing - spacing[0]).max() < 1e-3 and np.isclose(spacing.sum() + spacing[0], 360))
        self.spectra = Spectra(channels, grid, self.leads) if around else None
        """None where longitudes do not go around the globe evenly."""

    def observe(
        self, name: str, time: np.datetime64, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray
    ) -> None:
        """Add a forecast, if it is the emulator's; arrays are [lead, channel, lat, lon]."""
        if name == FORECAST:
            at = self._at
            self.maps.observe(name, time, forecast[at], truth[at], climatology[at])
            if self.spectra is not None:
                self.spectra.observe(name, time, forecast[at], truth[at], climatology[at])

    @property
    def initial_times(self) -> np.ndarray:
        """The initial times in the sums, datetime64[ns] [time], ascending."""
        sums = self.maps.sums.get(FORECAST)
        return np.array([], "datetime64[ns]") if sums is None else sums.initial_times

    def dataset(self) -> xr.Dataset:
        """All sums, with what it takes to go on from them."""
        axes = {
            "maps": ("statistic", "lead_time", "channel", "latitude", "longitude"),
            f"spectrum_{FORECAST}": ("lead_time", "channel", "latitude", "zonal_wavenumber"),
            f"spectrum_{TRUTH}": ("lead_time", "channel", "latitude", "zonal_wavenumber"),
        }
        variables, checksums = {}, {}
        of_spectra = {} if self.spectra is None else {f"spectrum_{k}": v for k, v in self.spectra.sums.items()}
        for name, sums in {"maps": self.maps.sums[FORECAST], **of_spectra}.items():
            for part, values in sums.arrays().items():
                variables[name if part == "sum" else f"{name}_{part}"] = (axes[name], values)
            checksums[name] = sums.checksum()
        coordinates = {
            "lead_time": self.leads,
            "latitude": self.grid.latitude,
            "longitude": self.grid.longitude,
            "init_time": self.initial_times,
        }
        attributes = {
            "channels": [[channel.variable, channel.level] for channel in self.channels],
            "grid_origin": self.grid.origin,
            "convention": self.convention,
            "skipna": self.skipna,
            "sha256": checksums,
        }
        return xr.Dataset(variables, coordinates, attributes)

    @classmethod
    def restore(cls, dataset: xr.Dataset) -> Diagnostics:
        """What `dataset` was made of.

        Raises
        ------
        UserError
            If it is damaged.
        """
        attributes = dataset.attrs
        leads = dataset["lead_time"].values
        grid = Grid(dataset["latitude"].values, dataset["longitude"].values, attributes["grid_origin"])
        channels = [Channel(name, level) for name, level in attributes["channels"]]
        found = cls(
            channels, grid, leads, leads, convention=attributes["convention"], skipna=bool(attributes["skipna"])
        )
        times = dataset["init_time"].values
        for name, checksum in attributes["sha256"].items():
            missing = dataset[f"{name}_missing"].values if f"{name}_missing" in dataset else None
            sums = FieldSums.restore(times, dataset[name].values, missing)
            if sums.checksum() != checksum:
                raise UserError(
                    f"the stored {name.replace('_', ' ')} are damaged (their checksum differs); remove the scores and "
                    "evaluate again"
                )
            if name == "maps":
                found.maps.sums[FORECAST] = sums
            elif found.spectra is not None:
                found.spectra.sums[name.removeprefix("spectrum_")] = sums
        return found

    def merge(self, other: Diagnostics) -> Diagnostics:
        """Those over the initial times of both.

        Raises
        ------
        UserError
            If they are of different leads, channels or grids, or share an initial time.
        """
        same = (
            self.channels == other.channels
            and np.array_equal(self.leads, other.leads)
            and np.array_equal(self.grid.latitude, other.grid.latitude)
            and np.array_equal(self.grid.longitude, other.grid.longitude)
            and (self.convention, self.skipna) == (other.convention, other.skipna)
        )
        if not same:
            raise UserError("maps and spectra can only be merged where leads, channels, grid and convention agree")
        merged = Diagnostics(
            self.channels, self.grid, self.leads, self.leads, convention=self.convention, skipna=self.skipna
        )
        merged.maps.sums[FORECAST] = self.maps.sums[FORECAST].merge(other.maps.sums[FORECAST])
        if merged.spectra is not None and self.spectra is not None and other.spectra is not None:
            merged.spectra.sums = {
                name: sums.merge(other.spectra.sums[name]) for name, sums in self.spectra.sums.items()
            }
        return merged
