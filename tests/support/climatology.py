"""A climatology as a dataset, made as all are: through a store."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from graphufs.storage.zarr_io import open_zarr
from graphufs.weatherbench.climatology.store import write_store
from graphufs.weatherbench.inputs.truth import Truth


def in_memory(truth: Truth, stamps: np.ndarray, **recipe: Any) -> xr.Dataset:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "climatology.zarr"
        write_store(path, truth, stamps, {}, **recipe)
        return open_zarr(path).load().drop_encoding()
