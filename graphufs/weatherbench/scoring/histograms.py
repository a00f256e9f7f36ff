"""Rank histograms and exceedance of thresholds, as mergeable sums over initial times; what diagrams are drawn of.

Unlike scores they are not kept by initial time: an ensemble of fifty has a hundred numbers for each threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.scoring.field_sums import FieldSums
from graphufs.weatherbench.scoring.members import Counts

AXES = {
    "rank": ("lead_time", "channel", "region", "rank"),
    "exceedance": ("quantile", "lead_time", "channel", "region", "members_above", "event"),
}


class Histograms:
    """Sums over initial times of what `Counts` holds, by name of the forecast.

    Their share of the truth's ranks, and of members above a threshold, are these sums over the number of initial times.
    """

    def __init__(
        self, leads: np.ndarray, channels: Sequence[Channel], regions: Sequence[str], quantiles: Sequence[float]
    ) -> None:
        self.leads = np.asarray(leads, "timedelta64[ns]")
        self.channels, self.regions, self.quantiles = tuple(channels), tuple(regions), tuple(quantiles)
        self.sums: dict[str, dict[str, FieldSums]] = {}
        """By name of the forecast and of the histogram, with the axes of `AXES`."""

    def update(self, name: str, time: np.datetime64, counts: Counts) -> None:
        """Add an initial time of a forecast."""
        values = {"rank": counts.ranks, "exceedance": counts.exceedance}
        own = self.sums.setdefault(name, {kind: FieldSums(array.shape) for kind, array in values.items()})
        for kind, array in values.items():
            own[kind].update(time, array)

    def merge(self, other: Histograms) -> Histograms:
        """Those over the initial times of both.

        Raises
        ------
        UserError
            If they are of different leads, channels, regions or thresholds, or share an initial time.
        """
        same = (
            np.array_equal(self.leads, other.leads)
            and (self.channels, self.regions, self.quantiles) == (other.channels, other.regions, other.quantiles)
            and set(self.sums) == set(other.sums)
        )
        if not same:
            raise UserError(
                "histograms can only be merged where leads, channels, regions, thresholds and forecasts agree"
            )
        merged = Histograms(self.leads, self.channels, self.regions, self.quantiles)
        merged.sums = {
            name: {kind: sums.merge(other.sums[name][kind]) for kind, sums in own.items()}
            for name, own in self.sums.items()
        }
        return merged

    def ranks(self, name: str) -> np.ndarray:
        """The share of each rank of the truth among the members, float64 [lead, channel, region, member + 1]."""
        return self.sums[name]["rank"].mean()

    def exceedance(self, name: str) -> np.ndarray:
        """The share of so many members above a threshold, by whether the truth was.

        float64 [threshold, lead, channel, region, member + 1, 2].
        """
        return self.sums[name]["exceedance"].mean()

    @property
    def initial_times(self) -> np.ndarray:
        """The initial times in the sums, datetime64[ns] [time], ascending."""
        for own in self.sums.values():
            return own["rank"].initial_times
        return np.array([], "datetime64[ns]")

    def dataset(self) -> xr.Dataset:
        """All sums, with what it takes to go on from them."""
        variables, checksums = {}, {}
        for name, own in self.sums.items():
            for kind, sums in own.items():
                key = f"{kind}_{name}"
                dims = tuple(f"{dim}_{name}" if dim in ("rank", "members_above") else dim for dim in AXES[kind])
                variables[key] = (dims, sums.arrays()["sum"])
                checksums[key] = sums.checksum()
        coordinates = {
            "lead_time": self.leads,
            "region": list(self.regions),
            "quantile": np.array(self.quantiles, np.float64),
            "init_time": self.initial_times,
        }
        channels = [[channel.variable, channel.level] for channel in self.channels]
        return xr.Dataset(
            variables, coordinates, {"channels": channels, "forecasts": list(self.sums), "sha256": checksums}
        )

    @classmethod
    def restore(cls, dataset: xr.Dataset) -> Histograms:
        """What `dataset` was made of.

        Raises
        ------
        UserError
            If it is damaged.
        """
        channels = [Channel(name, level) for name, level in dataset.attrs["channels"]]
        regions = [str(name) for name in dataset["region"].values]
        found = cls(dataset["lead_time"].values, channels, regions, dataset["quantile"].values.tolist())
        times, checksums = dataset["init_time"].values, dataset.attrs["sha256"]
        for name in dataset.attrs["forecasts"]:
            own = {kind: FieldSums.restore(times, dataset[f"{kind}_{name}"].values, None) for kind in AXES}
            if any(sums.checksum() != checksums[f"{kind}_{name}"] for kind, sums in own.items()):
                raise UserError(
                    f"the stored histograms of {name} are damaged (their checksum differs); remove the scores and "
                    "evaluate again"
                )
            found.sums[name] = own
        return found


def merged_histograms(one: Histograms | None, other: Histograms | None) -> Histograms | None:
    """Those over the initial times of both; None where there are none."""
    return None if one is None or other is None else one.merge(other)
