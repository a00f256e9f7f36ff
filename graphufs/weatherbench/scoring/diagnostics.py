"""What averages over the globe hide: maps of the error and zonal spectra, at a few leads, as mergeable sums.

Kept beside the scores of the emulator. Maps have one value a point and spectra one a latitude and wavenumber, so they
are not kept by initial time as scores are, but as sums that know their initial times. Of an ensemble maps and spectra
are those of the mean; spread and error of the mean at each point, and the spectrum of each member, come besides.
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
from graphufs.weatherbench.scoring.member_maps import MemberMaps
from graphufs.weatherbench.scoring.score import FORECAST
from graphufs.weatherbench.scoring.spectra import TRUTH, Spectra, zonal_energy_spectrum

MAPS = ("rmse", "bias")
MEMBER_MAPS, MEMBER_SPECTRA = "member_maps", "member_spectra"


def diagnosed_leads(leads: np.ndarray, hours: Sequence[float]) -> np.ndarray:
    """Those of `leads`, timedelta64 [lead], that are asked for in hours, ascending; the longest where none is."""
    wanted = [lead for lead in leads if lead / np.timedelta64(1, "h") in hours]
    return np.sort(np.array(wanted or [leads.max()], "timedelta64[ns]"))


class Diagnostics:
    """Maps and spectra of the emulator's forecasts at `leads`, some of `every_lead`.

    An `Observer` and a `MemberObserver` of `score`. What it saw of members is in `member_maps` and `member_spectra`.
    """

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
        self.member_maps = MemberMaps(channels, grid, self.leads, convention=convention, skipna=skipna)
        self.member_spectra: FieldSums | None = None
        """The mean over latitudes of each member's spectrum, [lead, member, channel, wavenumber]; None without any."""

    def observe(
        self, name: str, time: np.datetime64, forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray
    ) -> None:
        """Add a forecast, if it is the emulator's; arrays are [lead, channel, lat, lon]."""
        if name == FORECAST:
            at = self._at
            self.maps.observe(name, time, forecast[at], truth[at], climatology[at])
            if self.spectra is not None:
                self.spectra.observe(name, time, forecast[at], truth[at], climatology[at])

    def observe_members(self, name: str, time: np.datetime64, members: np.ndarray, truth: np.ndarray) -> None:
        """Add an ensemble, if it is the emulator's: [lead, member, channel, lat, lon], and its truth; no single one."""
        if name != FORECAST or members.shape[1] == 1:
            return
        self.member_maps.observe_members(name, time, members[self._at], truth[self._at])
        if self.spectra is not None:
            of_latitudes = zonal_energy_spectrum(members[self._at], self.grid.latitude)
            self._add_member_spectra(time, of_latitudes.mean(axis=-2))

    def _add_member_spectra(self, time: np.datetime64, spectrum: np.ndarray) -> None:
        if self.member_spectra is None:
            self.member_spectra = FieldSums(spectrum.shape)
        self.member_spectra.update(time, spectrum)

    @property
    def ensemble(self) -> bool:
        """Whether members were seen."""
        return FORECAST in self.member_maps.sums

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
            MEMBER_MAPS: ("member_statistic", "lead_time", "channel", "latitude", "longitude"),
            MEMBER_SPECTRA: ("lead_time", "number", "channel", "zonal_wavenumber"),
        }
        variables, checksums = {}, {}
        for name, sums in self._sums().items():
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

    def _sums(self) -> dict[str, FieldSums]:
        """All sums by the name they are stored by."""
        found = {"maps": self.maps.sums[FORECAST]}
        if self.spectra is not None:
            found |= {f"spectrum_{name}": sums for name, sums in self.spectra.sums.items()}
        if self.ensemble:
            found[MEMBER_MAPS] = self.member_maps.sums[FORECAST]
        if self.member_spectra is not None:
            found[MEMBER_SPECTRA] = self.member_spectra
        return found

    def _take(self, name: str, sums: FieldSums) -> None:
        """Put sums where they belong, by the name they are stored by."""
        if name == "maps":
            self.maps.sums[FORECAST] = sums
        elif name == MEMBER_MAPS:
            self.member_maps.sums[FORECAST] = sums
        elif name == MEMBER_SPECTRA:
            self.member_spectra = sums
        elif self.spectra is not None:
            self.spectra.sums[name.removeprefix("spectrum_")] = sums

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
            found._take(name, sums)
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
        mine, others = self._sums(), other._sums()
        if not (same and set(mine) == set(others)):
            raise UserError("maps and spectra can only be merged where leads, channels, grid and convention agree")
        merged = Diagnostics(
            self.channels, self.grid, self.leads, self.leads, convention=self.convention, skipna=self.skipna
        )
        for name, sums in mine.items():
            merged._take(name, sums.merge(others[name]))
        return merged
