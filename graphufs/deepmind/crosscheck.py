"""The same parameters and the same input through DeepMind's own network, and the difference.

Needs DeepMind's packages, which are on no package index: graphcast from its source at tag v0.2, and what that imports.
The emulator is exported, the file is read by their reader, the input goes through their stacking of variables, their
graph and their network; ours computes with its own order of channels and its own graph, by the reference's rule for
points on a side of the mesh. So the difference covers names, channel order, permutation of weights, file, graph and
network, all but the normalization, at every grid point.

What is used of their interface: graphcast.graphcast.{GraphCast, CheckPoint}, graphcast.checkpoint.load,
graphcast.xarray_jax.{Dataset, unwrap_data}, graphcast.icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere,
graphcast.grid_mesh_connectivity.in_mesh_triangle_indices, haiku.{transform, without_apply_rng}. It was run
with the real packages, GraphCast at v0.2, with which checkpoints are exchanged exactly. The tests run it against a
look-alike of that interface (tests/official), whose network reproduces the recorded outputs of the real one
(tests/golden).
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.table import Table

from graphufs.deepmind.export import labels_of, official_checkpoint
from graphufs.deepmind.names import ATMOSPHERIC, Label, Labels, deepmind_names, order
from graphufs.deepmind.npz import Checkpoint, write_checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.compile import jit

TOLERANCE = 1e-4
"""Of the largest output: what float32 and another order of sums may make, with room."""

INSTALL = (
    "install DeepMind's own source into this environment with "
    '`pip install --no-deps "git+https://github.com/google-deepmind/graphcast@v0.2"`, and what it imports, with '
    "nothing of the lock moved, with `.tools/bin/uv pip install --python .venv/bin/python --constraint "
    "requirements/dev.lock chex dm-haiku dm-tree 'jraph>=0.0.6.dev0'` in a checkout. "
    "The package called graphcast on PyPI is unrelated; do not install it"
)

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ChannelDifference:
    """The largest difference of one output channel, and the same over its largest value."""

    channel: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class Crosscheck:
    """What a crosscheck found: over all grid points the largest difference, and that over the largest value.

    At `tied` points, which lie on a side of a mesh triangle, the checkpoint's own rule (model.mesh2grid_ties) takes
    another of the triangles that are equally near than DeepMind's code. The comparison is made by their rule; the
    checkpoint's own forecasts differ from theirs there.
    """

    points: int
    tied: int
    absolute: float
    relative: float
    channels: tuple[ChannelDifference, ...]

    @property
    def agrees(self) -> bool:
        """Whether the difference is one of rounding."""
        return self.relative <= TOLERANCE

    def table(self) -> Table:
        """As a table for the terminal."""
        ties = f", {self.tied} tied otherwise" if self.tied else ""
        title = f"Against DeepMind's network: {self.points} points{ties}"
        table = Table("output", "max difference", "relative", title=title, title_justify="left")
        for row in (*self.channels, ChannelDifference("all", self.absolute, self.relative)):
            table.add_row(row.channel, f"{row.absolute:.2e}", f"{row.relative:.2e}")
        return table

    def to_json(self) -> dict[str, Any]:
        """As JSON objects."""
        return {**asdict(self), "agrees": self.agrees, "tolerance": TOLERANCE}


class Official(SimpleNamespace):
    """DeepMind's modules by name: those of graphcast, and haiku."""

    @classmethod
    def load(cls) -> Official:
        """Import them.

        Raises
        ------
        UserError
            If they are not installed, or another package has the name graphcast.
        """
        spec = find_spec("graphcast")
        if spec is None:
            raise UserError(f"a crosscheck needs DeepMind's package graphcast, which is not installed: {INSTALL}")
        # looked at before anything of it is run: a package of that name may be anyone's
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        if not any((folder / "graphcast.py").is_file() for folder in folders):
            raise UserError(f"the package graphcast installed here is not DeepMind's; remove it and {INSTALL}")
        names = ("graphcast", "checkpoint", "xarray_jax", "icosahedral_mesh", "grid_mesh_connectivity")
        try:
            modules = {name: importlib.import_module(f"graphcast.{name}") for name in names}
            haiku = importlib.import_module("haiku")
        except ImportError as error:
            raise UserError(f"DeepMind's package graphcast cannot be imported ({error}): {INSTALL}") from error
        if not hasattr(modules["graphcast"], "GraphCast"):
            raise UserError(f"graphcast.graphcast has no GraphCast; it is not DeepMind's at v0.2: {INSTALL}")
        return cls(**modules, haiku=haiku)


def crosscheck(path: Path | str, seed: int = 0) -> Crosscheck:
    """Run both networks of a checkpoint folder on the same random input, standard normal in every channel.

    Raises
    ------
    UserError
        If DeepMind's packages are missing, or there is no such checkpoint.
    """
    official = Official.load()
    emulator = ReplayEmulator.from_checkpoint(path)
    here = labels_of(emulator)
    here = here.renamed(deepmind_names(here.variables))
    there = here.sorted()
    latitude, longitude = emulator.domain.latitude, emulator.domain.longitude
    shape = (1, latitude.size * longitude.size, len(there.rows))
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    exported, names = official_checkpoint(emulator), there
    if not _representable(there):
        exported, names = _neutral(exported, there)
    theirs = official_outputs(official, exported, names, x, latitude, longitude)
    apply = jit(lambda network, x, graph: network(x, graph))
    tied = int(tied_points(official, emulator).sum())
    model = emulator.experiment.model.model_copy(update={"mesh2grid_ties": "reference"})
    by_their_rule = replace(emulator, experiment=emulator.experiment.model_copy(update={"model": model}))
    ours = np.asarray(apply(emulator.network, x[..., order(there.rows, here.rows)], by_their_rule.stepper.graph))
    return compare(ours[..., order(here.outputs, there.outputs)], theirs, there.outputs, tied)


def compare(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], outputs: Sequence[Label], tied: int = 0
) -> Crosscheck:
    """The differences of outputs [batch, grid, channel]; `tied` is told with them."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    # the maximum of |.| over batch and points; NaN stays NaN and agrees with nothing
    difference, size = np.abs(ours - theirs).max((0, 1)), np.abs(theirs).max((0, 1))
    tiny = np.finfo(np.float64).tiny
    channels = tuple(
        ChannelDifference(str(label), float(d), float(d / max(s, tiny)))
        for label, d, s in zip(outputs, difference, size, strict=True)
    )
    absolute = float(difference.max())
    relative = absolute / max(float(size.max()), tiny)
    return Crosscheck(ours.shape[1], tied, absolute, relative, channels)


def official_outputs(
    official: Official,
    checkpoint: Checkpoint,
    labels: Labels,
    x: NDArray[np.float32],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
) -> NDArray[np.float32]:
    """What DeepMind's network makes of normalised channels [batch, grid, input channel]: [batch, grid, output channel].

    `labels` say what the channels are, in the names and the order of the checkpoint.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "exported.npz", checkpoint)
        with open(Path(folder) / "exported.npz", "rb") as file:
            loaded = official.checkpoint.load(file, official.graphcast.CheckPoint)
    grid = (latitude.size, longitude.size)
    coordinates = {"lat": latitude.astype(np.float32), "lon": longitude.astype(np.float32)}
    split = len(labels.inputs)
    inputs, input_dims = _variables(labels.inputs, x[..., :split], grid)
    forcings, forcing_dims = _variables(labels.forcings, x[..., split:], grid)
    blank = np.zeros((*x.shape[:2], len(labels.outputs)), np.float32)
    targets, target_dims = _variables(labels.outputs, blank, grid)
    template = xr.Dataset({name: (target_dims[name], values) for name, values in targets.items()}, coordinates)

    def forward(inputs: Arrays, forcings: Arrays) -> dict[str, Any]:
        def dataset(arrays: Arrays, dims: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
            return official.xarray_jax.Dataset({name: (dims[name], arrays[name]) for name in arrays}, coordinates)

        network = official.graphcast.GraphCast(loaded.model_config, loaded.task_config)
        made = network(dataset(inputs, input_dims), targets_template=template, forcings=dataset(forcings, forcing_dims))
        return {name: official.xarray_jax.unwrap_data(made[name]) for name in targets}

    apply = official.haiku.without_apply_rng(official.haiku.transform(forward)).apply
    made = jit(apply)(loaded.params, inputs, forcings)
    columns = [np.asarray(made[name]).reshape(x.shape[0], -1, grid[0] * grid[1]) for name in sorted(targets)]
    return np.concatenate(columns, axis=1).swapaxes(1, 2)


def tied_points(official: Official, emulator: ReplayEmulator) -> NDArray[np.bool_]:
    """The grid points that DeepMind's graph and ours put into different triangles of the mesh, bool [grid]."""
    size = emulator.experiment.model.mesh_size
    finest = official.icosahedral_mesh.get_hierarchy_of_triangular_meshes_for_sphere(splits=size)[-1]
    _, theirs = official.grid_mesh_connectivity.in_mesh_triangle_indices(
        grid_latitude=emulator.domain.latitude.astype(np.float32),
        grid_longitude=emulator.domain.longitude.astype(np.float32),
        mesh=finest,
    )
    # [block, 3, point] -> [grid, 3]
    senders = np.asarray(emulator.stepper.graph.mesh2grid_senders)
    ours = senders.swapaxes(1, 2).reshape(-1, 3)
    return (np.sort(ours, axis=1) != np.sort(np.asarray(theirs).reshape(-1, 3), axis=1)).any(axis=1)


def _variables(
    labels: Sequence[Label], channels: NDArray[np.float32], grid: tuple[int, int]
) -> tuple[Arrays, dict[str, tuple[str, ...]]]:
    """Channels [batch, grid, channel] as variables with the dimensions DeepMind's data have."""
    arrays: Arrays = {}
    dims: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(label.variable for label in labels):
        places = [place for place, label in enumerate(labels) if label.variable == name]
        frames = len({labels[place].frame for place in places})
        levels = len({labels[place].level for place in places})
        values = channels[..., places].swapaxes(1, 2).reshape(len(channels), frames, levels, *grid)
        if labels[places[0]].frame is None:
            values, dims[name] = values[0, 0], ("lat", "lon")
        else:
            dims[name] = ("batch", "time", "lat", "lon")
        if labels[places[0]].level is None:
            values = values.squeeze(axis=-3)
        else:
            dims[name] = (*dims[name][:-2], "level", "lat", "lon")
        arrays[name] = values
    return arrays, dims


def _representable(labels: Labels) -> bool:
    """Whether DeepMind's network can be built for these names.

    It tells by the name which outputs have levels, and its code takes neither an empty list of levels nor no forcings.
    """
    with_levels = {label.variable for label in labels.outputs if label.level is not None}
    return bool(with_levels) and with_levels <= ATMOSPHERIC and bool(labels.forcings)


def _neutral(checkpoint: Checkpoint, labels: Labels) -> tuple[Checkpoint, Labels]:
    """The same network with every channel a variable of its own, the last one a forcing; names sort in this order."""
    rows = tuple(Label(f"input_{place:05d}", 0) for place in range(len(labels.rows)))
    outputs = tuple(Label(f"output_{place:05d}", 1) for place in range(len(labels.outputs)))
    neutral = Labels(rows[:-1], (rows[-1]._replace(frame=1),), outputs)
    task = {
        "input_variables": tuple(label.variable for label in neutral.inputs),
        "target_variables": tuple(label.variable for label in outputs),
        "forcing_variables": (rows[-1].variable,),
        # their reader insists on an entry; none of these variables has levels
        "pressure_levels": (1000,),
        "input_duration": checkpoint.task_config["input_duration"],
    }
    return replace(checkpoint, task_config=task), neutral
