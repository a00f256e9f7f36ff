"""The embedded world before it is made: its grid, levels and variables with no data, to check an experiment against."""

from __future__ import annotations

import numpy as np
import xarray as xr

from graphufs.config.data import EMBEDDED
from graphufs.grid.areas import gaussian_latitudes
from graphufs.replay.opening import EXTRA_COORDINATES
from graphufs.replay.source import ReplayStore
from graphufs.replay.synthetic.replay_layout import ARRAYS, SIGMA_INTERFACES, STAMP, WORLD_START
from graphufs.replay.synthetic.store import BLOCK

LATITUDES, LONGITUDES = 32, 64


def embedded_outline(until: np.datetime64) -> ReplayStore:
    """The embedded world's store as it will be when it reaches `until`, every value 0 and none in memory."""
    interfaces = np.array(SIGMA_INTERFACES)
    start = WORLD_START.astype("datetime64[ns]")
    coordinates = {
        "time": np.arange(start, max(until, start) + STAMP, STAMP),
        "pfull": np.float32(1000) * (interfaces[1:] + interfaces[:-1]).astype(np.float32) / 2,
        "grid_yt": gaussian_latitudes(LATITUDES),
        "grid_xt": np.arange(LONGITUDES) * (360.0 / LONGITUDES),
    }
    sizes = {name: values.size for name, values in coordinates.items()}
    fields = {
        array.name: xr.Variable(
            array.dimensions,
            np.broadcast_to(np.zeros((), array.dtype), [sizes[name] for name in array.dimensions]),
            dict(array.attributes),
            {"preferred_chunks": {"time": BLOCK}},
        )
        for array in ARRAYS
        if array.name not in coordinates and array.name not in EXTRA_COORDINATES
    }
    return ReplayStore(xr.Dataset(fields, coordinates), EMBEDDED, "fv3")
