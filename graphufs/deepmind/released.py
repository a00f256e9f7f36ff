"""A released model as a checkpoint of ours: DeepMind's weights and statistics, and the experiment they describe.

    emulator = released_emulator("params/GraphCast_small.npz", "stats")
    import_checkpoint("params/GraphCast_small.npz", "stats", "checkpoints/graphcast_small")

Nothing is trained. Variables keep DeepMind's names, which are those of ERA5 stores in WeatherBench2's layout, and the
units there. What the file does not say is taken from how DeepMind runs its models: the grid has poles and starts at
longitude 0, solar radiation is summed over an hour, and grid points on a side of the mesh are tied by its rule. Static
fields are in neither file: they are NaN until a forecast takes them from its analysis.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from graphufs import reading
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.channels import PreparedChannel
from graphufs.deepmind.export import labels_of
from graphufs.deepmind.names import Labels, permute
from graphufs.deepmind.npz import Checkpoint, from_deepmind, read_checkpoint, require_shapes
from graphufs.emulator import checkpoint
from graphufs.emulator.domain import Domain
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.network import GraphCast
from graphufs.normalization.statistics import Statistics
from graphufs.storage.provenance import provenance
from graphufs.vocabulary.variables import DERIVED_FORCINGS

STATISTICS_FILES = {
    "mean": "mean_by_level.nc",
    "std": "stddev_by_level.nc",
    "diffs_std": "diffs_stddev_by_level.nc",
}
"""DeepMind's names of the files with the statistics."""

PERIODS = {
    "training": {"start": "1979-01-01T00", "end": "2015-12-31T18"},
    "validation": {"start": "2016-01-01T00", "end": "2017-12-31T18"},
    "evaluation": {"start": "2018-01-01T00", "end": "2018-12-31T18"},
}
"""Those of the published GraphCast_small; a file does not say its own, and nothing is trained or scored by them."""

MOST_ROWS = 1800
"""Of latitude, between the poles; the finest model that DeepMind released has 720."""

MODEL_KEYS = {
    "mesh_size": "mesh_size",
    "latent_size": "latent_size",
    "gnn_msg_steps": "message_steps",
    "hidden_layers": "hidden_layers",
    "radius_query_fraction_edge_length": "radius_fraction",
}
"""Keys of our section `model` by those of DeepMind's model configuration."""


def released_emulator(file: Path | str, statistics: Path | str) -> ReplayEmulator:
    """The emulator of a file in DeepMind's npz format and a folder with DeepMind's three netCDF files.

    Raises
    ------
    UserError
        If a file is missing or damaged, the two do not fit each other, or the model is none that we can run.
    """
    return _emulator(Path(file), read_checkpoint(file), Path(statistics))


def import_checkpoint(file: Path | str, statistics: Path | str, output: Path | str) -> ReplayEmulator:
    """The same, written as a checkpoint folder, which must not exist yet.

    Raises
    ------
    UserError
        As `released_emulator`, and if there is something at `output`, or no folder to put it into.
    """
    file, output = Path(file), Path(output)
    if output.exists():
        raise UserError(f"{output} exists already; remove it, or name another folder")
    if not output.parent.is_dir():
        raise UserError(f"there is no folder {output.parent} to make {output.name} in; make it first")
    content = read_checkpoint(file)
    emulator = _emulator(file, content, Path(statistics))
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    meta: dict[str, Any] = {
        "total": 0,
        "experiment": emulator.experiment.model_dump(mode="json"),
        "hashes": {},
        "provenance": provenance(),
        "imported": {
            "file": file.name,
            "sha256": digest,
            "description": content.description,
            "license": content.license,
        },
    }
    checkpoint.write(output, 0, emulator.arrays(), {}, meta)
    return emulator


def _emulator(file: Path, content: Checkpoint, folder: Path) -> ReplayEmulator:
    labels = Labels.of_checkpoint(content)
    experiment = _experiment(file, content, labels)
    domain = _domain(file, content, experiment, labels)
    statistics = _statistics(folder, experiment)
    emulator = ReplayEmulator(experiment, domain, _network(file, content, labels), statistics)
    return ReplayEmulator(experiment, domain, permute(emulator.network, labels, labels_of(emulator)), statistics)


def _network(file: Path, content: Checkpoint, labels: Labels) -> GraphCast:
    network = from_deepmind(content.parameters)
    found = {"latent_size": network.latent_size, "gnn_msg_steps": len(network.processor.steps)}
    found["hidden_layers"] = len(network.processor.embed_edges.linears) - 1
    for name, size in found.items():
        if content.model_config.get(name) != size:
            raise UserError(
                f"{file}: model_config:{name} is {content.model_config.get(name)}, but the parameters are those of a "
                f"network with {size}; the file is damaged"
            )
    wanted = jax.eval_shape(
        lambda: GraphCast.init(
            inputs=len(labels.rows),
            outputs=len(labels.outputs),
            latent_size=found["latent_size"],
            message_steps=found["gnn_msg_steps"],
            hidden_layers=found["hidden_layers"],
            key=jax.random.key(0),
        )
    )
    require_shapes(network, wanted, file)
    return network


def _experiment(file: Path, content: Checkpoint, labels: Labels) -> Experiment:
    model, task = content.model_config, content.task_config
    if missing := [name for name in (*MODEL_KEYS, "resolution") if name not in model]:
        raise UserError(
            f"{file} has no model_config:{missing[0]}; only a complete checkpoint of GraphCast can be imported"
        )
    if unknown := sorted(set(task.get("forcing_variables", ())) - set(DERIVED_FORCINGS)):
        raise UserError(
            f"{file} needs the forcing {', '.join(unknown)}, which cannot be computed; known are "
            f"{', '.join(DERIVED_FORCINGS)}"
        )
    frames = 1 - min((label.frame for label in labels.inputs if label.frame is not None), default=1)
    duration = re.fullmatch(r"([0-9]{1,6})h", str(task.get("input_duration")))
    if not duration or not frames or int(duration[1]) % frames:
        raise UserError(
            f"{file}: task_config:input_duration is {reading.shown(task.get('input_duration'))}; it must be whole "
            f"hours, such as 12h, for each of {frames} input frames"
        )
    step = int(duration[1]) // frames
    written = {
        "name": re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("-._")[:64] or "released",
        "description": content.description,
        "data": {
            "source": {"url": "ERA5"},
            "inputs": list(task["input_variables"]),
            "targets": list(task["target_variables"]),
            "forcings": list(task.get("forcing_variables", ())),
            "levels": [float(level) for level in task.get("pressure_levels", ())],
            "level_match": "exact",
            "time_step": f"{step}h",
            "input_frames": frames,
            **PERIODS,
        },
        "model": {
            **{ours: model[theirs] for theirs, ours in MODEL_KEYS.items()},
            "mesh2grid_normalization": model.get("mesh2grid_edge_normalization_factor"),
            "mesh2grid_ties": "reference",
        },
        "training": {"batch_size": 1, "stages": [{"name": "imported", "updates": 1}]},
        "forecast": {"lead_time": f"{40 * step}h", "every": f"{step}h"},
    }
    return loading.parse(json.dumps(written), origin=str(file))


def _domain(file: Path, content: Checkpoint, experiment: Experiment, labels: Labels) -> Domain:
    resolution = content.model_config["resolution"]
    if isinstance(resolution, bool) or not isinstance(resolution, int | float):
        raise UserError(f"{file}: model_config:resolution is {reading.shown(resolution)}, no number of degrees")
    rows = 180 / resolution if resolution > 0 else math.nan
    if not math.isfinite(rows) or abs(rows - round(rows)) > 1e-6 or rows < 1:
        raise UserError(f"{file}: model_config:resolution is {resolution:g} degrees, which does not divide 180")
    if rows > MOST_ROWS:
        raise UserError(
            f"{file}: model_config:resolution is {resolution:g} degrees; {180 / MOST_ROWS:g} and coarser are read"
        )
    latitude = np.linspace(-90.0, 90.0, round(rows) + 1)
    longitude = np.linspace(0.0, 360.0, 2 * round(rows), endpoint=False)
    every = (*labels.inputs, *labels.outputs)
    static = sorted({label.variable for label in labels.inputs if label.frame is None})
    with_levels = {label.variable for label in every if label.level is not None}
    channels = [
        PreparedChannel(name, level, level)
        for name in experiment.data.stored_variables
        if name not in static
        for level in (sorted(experiment.data.levels) if name in with_levels else [None])
    ]
    grid = (latitude.size, longitude.size)
    return Domain(
        latitude=latitude,
        longitude=longitude,
        parent_latitude=latitude,
        channels=tuple(channels),
        mask=np.ones((len(channels), *grid), bool),
        static={name: np.full(grid, np.nan, np.float32) for name in static},
        on_pressure_levels=True,
    )


def _statistics(folder: Path, experiment: Experiment) -> Statistics:
    data, levels = experiment.data, sorted(experiment.data.levels)
    names = sorted({*data.inputs, *data.targets, *data.forcings})
    found: dict[str, dict[str, np.ndarray]] = {}
    for kind, name in STATISTICS_FILES.items():
        path = folder / name
        try:
            with xr.open_dataset(path, engine="netcdf4") as opened:
                dataset = opened.load()
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read the statistics {path} ({error}); --statistics is the folder with DeepMind's "
                f"{', '.join(STATISTICS_FILES.values())}"
            ) from None
        # what has no statistics their normalization leaves as it is, and so does ours
        found[kind] = {one: _by_level(dataset[one], levels, path) for one in names if one in dataset.data_vars}
    statistics = Statistics(found["mean"], found["std"], found["diffs_std"])
    scaled = set(data.targets) & set(data.inputs)
    if lacking := sorted((set(data.targets) & set(names)) - set(statistics.std)):
        raise UserError(f"{folder / STATISTICS_FILES['std']} has no {', '.join(lacking)}, which the model predicts")
    statistics.check(scaled, str(folder))
    return statistics


def _by_level(array: xr.DataArray, levels: Sequence[float], path: Path) -> np.ndarray:
    """The values of a statistic, float64 [level], [1] of a variable without levels."""
    if array.dtype.kind not in "iuf":
        raise UserError(f"{array.name} of {path} holds {array.dtype}, no numbers")
    if array.ndim == 0:
        return np.array([array.values], np.float64)
    if array.dims != ("level",):
        raise UserError(f"{array.name} of {path} has the dimensions {', '.join(map(str, array.dims))}; wanted is level")
    own = array["level"].values.astype(np.float64)
    if lacking := [f"{level:g}" for level in levels if level not in own]:
        raise UserError(f"{array.name} of {path} has no level {', '.join(lacking)}, which the model has")
    return array.values.astype(np.float64)[[int(np.flatnonzero(own == level)[0]) for level in levels]]
