"""Workflows of the real Earth2Studio, run by test_earth2studio.py with the Python of .venv-earth2studio.

python earth2studio_workflows.py GIVEN.json RESULTS: what each workflow gives, as NumPy files in the folder RESULTS.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import earth2studio.run
import numpy as np
import torch
import xarray as xr
from earth2studio.data import DataSource, fetch_data
from earth2studio.io import KVBackend, ZarrBackend
from earth2studio.models.px import PrognosticModel
from earth2studio.perturbation import Gaussian, Zero

from graphufs.errors import UserError
from graphufs.integrations.earth2studio import Emulator, PreparedFields


class Waves:
    """A look-alike data source: a wave for each name, other at each stamp, on a grid of its own orientation."""

    def __init__(self, latitude: list[float], longitude: list[float]) -> None:
        self.latitude, self.longitude = np.array(latitude), np.array(longitude)

    def __call__(self, time: Any, variable: Any) -> xr.DataArray:
        times, names = np.atleast_1d(np.asarray(time, "datetime64[ns]")), np.atleast_1d(np.asarray(variable))
        hours = times.astype("datetime64[h]").astype(np.int64)
        phases = np.array([sum(map(ord, str(name))) for name in names])
        east, north = np.deg2rad(self.longitude), np.deg2rad(self.latitude)[:, None]
        values = [[np.sin(east * 2 + phase + hour / 24) * np.cos(north) for phase in phases] for hour in hours]
        coords = {"time": times, "variable": list(map(str, names)), "lat": self.latitude, "lon": self.longitude}
        return xr.DataArray(np.array(values, np.float32), dims=list(coords), coords=coords)

    async def fetch(self, time: Any, variable: Any) -> xr.DataArray:
        return self(time, variable)


def arrays(io: Any, model: Emulator) -> dict[str, np.ndarray]:
    names = model.output_coords(model.input_coords())["variable"]
    return {str(name): np.asarray(io[str(name)][...]) for name in names}


def deterministic(checkpoint: str, data: str, times: list[str], steps: int) -> dict[str, np.ndarray]:
    fields = PreparedFields.open(data)
    model = Emulator.from_checkpoint(checkpoint, fields)
    assert isinstance(model, PrognosticModel) and isinstance(fields, DataSource)
    io = earth2studio.run.deterministic(times, steps, model, fields, ZarrBackend(), device="cpu", verbose=False)
    found = arrays(io, model)
    own = model.input_coords()
    x, coords = fetch_data(fields, np.array(times, "datetime64[ns]"), own["variable"], own["lead_time"])
    one, after = model(x, coords)
    names = list(after["variable"])
    assert list(one.shape) == [len(value) for value in after.values()]
    assert (after["lead_time"] == model.output_coords(own)["lead_time"]).all()
    for place, name in enumerate(names):
        np.testing.assert_array_equal(one[:, 0, place].numpy(), found[name][:, 1])
    try:
        Emulator.from_checkpoint(checkpoint)
    except UserError as error:
        assert "PreparedFields" in str(error)
    else:
        raise AssertionError("without a source it is refused")
    for wrong in (OrderedDict(coords, lat=coords["lat"] + 1), OrderedDict(coords, lead_time=coords["lead_time"] * 2)):
        try:
            model(x, wrong)
        except ValueError as error:
            assert "not the same" in str(error)
        else:
            raise AssertionError("other coordinates are refused")
    return found


def ensemble(checkpoint: str, data: str, times: list[str], steps: int, members: int) -> dict[str, np.ndarray]:
    fields = PreparedFields.open(data)
    model, found = Emulator.from_checkpoint(checkpoint, fields), {}
    for kind, perturbation in (("zero", Zero()), ("gaussian", Gaussian(0.01, seed=1))):
        io = earth2studio.run.ensemble(
            times, steps, members, model, fields, KVBackend(), perturbation, batch_size=2, device="cpu", verbose=False
        )
        found |= {f"{kind}.{name}": values for name, values in arrays(io, model).items()}
    return found


def waves(
    checkpoint: str, latitude: list[float], longitude: list[float], time: str, steps: int
) -> dict[str, np.ndarray]:
    source = Waves(latitude, longitude)
    model = Emulator.from_checkpoint(checkpoint, source)
    io = earth2studio.run.deterministic([time], steps, model, source, KVBackend(), device="cpu", verbose=False)
    return arrays(io, model)


if __name__ == "__main__":
    torch.set_num_threads(1)
    given, results = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for workflow in (deterministic, ensemble, waves):
        np.savez(results / f"{workflow.__name__}.npz", **workflow(**given[workflow.__name__]))
