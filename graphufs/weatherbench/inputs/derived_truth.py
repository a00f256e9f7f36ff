"""Truth with variables made of others, from whatever holds these."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES, check_names
from graphufs.weatherbench.inputs.channels import Channel, pack, unpack
from graphufs.weatherbench.inputs.derived import with_derived
from graphufs.weatherbench.inputs.truth import Truth


class DerivedTruth:
    """A truth whose derived channels are computed as it is read.

    Precipitation is added up over the stamps before; a stamp counts only if these are there too. `make` gives the truth
    of channels none of which is derived; `derived` names the `DERIVED_VARIABLES` that make the others, none of which
    needs a whole column.
    """

    def __init__(
        self, make: Callable[[Sequence[Channel]], Truth], channels: Sequence[Channel], derived: Sequence[str]
    ) -> None:
        check_names(derived)
        recipes = {DERIVED_VARIABLES[name].variable: DERIVED_VARIABLES[name] for name in derived}
        self.channels = tuple(channels)
        self._instant = tuple(name for name in derived if not DERIVED_VARIABLES[name].hours)
        base = [channel for channel in channels if channel.variable not in recipes]
        for channel in channels:
            if (recipe := recipes.get(channel.variable)) is not None and not recipe.hours:
                inputs = [Channel(name, channel.level) for name in recipe.inputs]
                base += [one for one in inputs if one not in base]
        self._base = make(base)
        self.grid = self._base.grid
        self._sums = {
            position: (make([Channel(recipes[name].inputs[0])]), recipes[name].hours, recipes[name].source_hours)
            for position, (name, _) in enumerate(channels)
            if name in recipes and recipes[name].hours
        }
        known = dict(zip(base, self._base.mask, strict=True))
        everywhere = np.ones(self.grid.shape, bool)
        self.mask = np.stack([known.get(channel, everywhere) for channel in channels])
        self.stamps = self._base.stamps
        for truth, hours, step in self._sums.values():
            before = np.arange(0, hours, step) * np.timedelta64(1, "h")
            self.stamps = self.stamps[np.isin(self.stamps[:, None] - before, truth.stamps).all(axis=1)]

    def read(self, stamps: np.ndarray) -> np.ndarray:
        """The fields at `stamps`, float32 [time, channel, lat, lon]."""
        stamps = np.asarray(stamps, "datetime64[ns]")
        fields, place = self._base.read(stamps), {"latitude": self.grid.latitude, "longitude": self.grid.longitude}
        variables, level = unpack(fields, self._base.channels, ["time", "channel", *place])
        dataset = xr.Dataset(variables, {"time": stamps, **place, **level})
        if self._instant:
            dataset = with_derived(dataset, self._instant)
        fields = np.empty((len(stamps), len(self.channels), *self.grid.shape), np.float32)
        there = [position for position in range(len(self.channels)) if position not in self._sums]
        if there:
            fields[:, there] = pack(dataset, [self.channels[position] for position in there], ["time"])
        for position, (truth, hours, step) in self._sums.items():
            total = np.zeros((len(stamps), *self.grid.shape))
            for before in range(0, hours, step):
                total += truth.read(stamps - np.timedelta64(before, "h"))[:, 0]
            fields[:, position] = total
        return fields
