"""What each channel of a network is, in Replay's names and in DeepMind's, and the permutation between the two.

GraphCast sorts its channels by variable name. Replay's names and DeepMind's sort differently (`ugrd10m` comes late,
`10m_u_component_of_wind` first), so a network cannot be handed over with its names changed only: the rows of the first
layer that meet the grid's channels, and the columns of the last layer that make the outputs, have to be permuted as
well. Everything in between is the same.

    here = Labels.of(channels, {"tmp": (500.0, 1000.0)})    # what the channels are: Replay's names, this order
    there = here.renamed(deepmind_names(here.variables))    # DeepMind's names, this order
    official = permute(network, there, there.sorted())      # DeepMind's names and order

Units differ for some variables (`hgtsfc_static` is in m, `geopotential_at_surface` in m2/s2). That changes no weight:
a network sees normalised values, and a constant positive factor of the units cancels in (x - mean)/std.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphufs import reading
from graphufs.deepmind.npz import Checkpoint, from_deepmind, to_deepmind
from graphufs.errors import UserError
from graphufs.model.channels import ChannelMap, Slot
from graphufs.model.network import GraphCast
from graphufs.vocabulary.variables import DERIVED_FORCINGS, TABLE

NAMES: dict[str, str] = {
    # the same quantity under both names: the one table of names this package has ...
    **{variable.replay: variable.weatherbench for variable in TABLE},
    # ... and what both sides compute from time and place
    **{name: name for name in DERIVED_FORCINGS},
}
"""DeepMind's (ERA5's) name of a Replay variable.

Surface pressure is in it as `surface_pressure`. The released checkpoints have `mean_sea_level_pressure`, another
quantity, which Replay does not hold.
"""


@dataclass(frozen=True)
class StandIn:
    """Two quantities so alike once normalised that the weights of one are a fair start for the other."""

    one: str
    other: str
    difference: str


STAND_INS: tuple[StandIn, ...] = (
    StandIn("dswrf_avetoa", "toa_incident_solar_radiation", "a mean over three hours for a sum over one"),
    StandIn("prateb_ave", "total_precipitation_6hr", "a mean over three hours for a sum over six"),
)
"""Pairs, Replay's first, that weights may be started from but that are never renamed into each other."""

ATMOSPHERIC = frozenset(
    "divergence fraction_of_cloud_cover geopotential ozone_mass_mixing_ratio potential_vorticity relative_humidity "
    "specific_cloud_ice_water_content specific_cloud_liquid_water_content specific_humidity "
    "specific_rain_water_content specific_snow_water_content temperature u_component_of_wind v_component_of_wind "
    "vertical_velocity vorticity".split()
)
"""The names DeepMind's network takes to have levels; every other has one channel a time."""

SURFACE = frozenset(
    "2m_temperature mean_sea_level_pressure 10m_u_component_of_wind 10m_v_component_of_wind "
    "total_precipitation_6hr".split()
)
"""The names without levels that DeepMind's tasks predict."""

STATIC = frozenset({"geopotential_at_surface", "land_sea_mask"})
"""The inputs that do not depend on time in DeepMind's tasks."""

STRUCTURAL = 3
"""Rows after the channels' in the first layer of the node embeddings: they meet latitude and longitude."""

ROWS = tuple(
    f"grid2mesh_gnn/~_networks_builder/encoder_nodes_{nodes}_nodes_mlp/~/linear_0:w" for nodes in ("grid", "mesh")
)
"""The tensors with a row for each input channel. Mesh nodes have zeros there; their rows are permuted alike."""

OUTPUT = "mesh2grid_gnn/~_networks_builder/decoder_nodes_grid_nodes_mlp/~/linear_"
"""The layers of the output; the last has a column, and an element of its bias, for each output channel."""


class Label(NamedTuple):
    """What a channel is.

    `frame` is 0 for the newest input, -1 for the one before it, 1 for the target time, None for a static variable;
    `level` is in hPa (depth in m for the ocean), None for a variable without levels.
    """

    variable: str
    frame: int | None = None
    level: float | None = None

    def __str__(self) -> str:
        level = "" if self.level is None else f" {self.level:g}"
        return f"{self.variable}{level}" + ("" if self.frame is None else f" at t{self.frame:+d}")


@dataclass(frozen=True)
class Labels:
    """What all channels of a network are, in its order."""

    inputs: tuple[Label, ...]
    forcings: tuple[Label, ...]
    outputs: tuple[Label, ...]

    def __post_init__(self) -> None:
        for kind, labels in (("input", self.rows), ("output", self.outputs)):
            if twice := [str(label) for label, count in Counter(labels).items() if count > 1]:
                raise UserError(f"the {kind} channels are ambiguous: {', '.join(twice)} occurs more than once")

    @classmethod
    def of(
        cls,
        channels: ChannelMap,
        levels: Mapping[str, Sequence[float]],
        transforms: Mapping[str, str] | None = None,
    ) -> Labels:
        """The labels of a channel map; `levels` are the wanted ones by variable, of those that have some.

        `transforms` has the function applied to a variable before it is normalised. A transformed variable is another
        quantity: it is called `log_spfh`, and is no one's specific humidity.
        """
        newest, transforms = channels.input_frames - 1, transforms or {}

        def label(slot: Slot, frame: int | None) -> Label:
            name = f"{transforms[slot.variable]}_{slot.variable}" if slot.variable in transforms else slot.variable
            values = levels.get(slot.variable)
            return Label(name, frame, float(values[slot.level]) if values else None)

        return cls(
            tuple(label(slot, None if slot.time is None else slot.time - newest) for slot in channels.inputs),
            tuple(label(slot, 1) for slot in channels.forcings),
            tuple(label(slot, 1) for slot in channels.outputs),
        )

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> Labels:
        """The labels of the network in a checkpoint of DeepMind's format, in the checkpoint's own names and order.

        The number of input frames follows from the number of rows of the first layer.

        Raises
        ------
        UserError
            If the task configuration is missing or does not fit the parameters.
        """
        task = checkpoint.task_config
        if missing := sorted({"input_variables", "target_variables"} - set(task)):
            raise UserError(f"the checkpoint has no task_config:{missing[0]}; without it its channels are unknown")
        for name in (key for key in task if key.endswith("_variables")):
            if not isinstance(task[name], tuple) or not all(isinstance(one, str) for one in task[name]):
                raise UserError(f"task_config:{name} is {reading.shown(task[name])}, no list of names of variables")
        static = set(task.get("static_variables", STATIC))
        with_levels = set(task.get("level_variables", ATMOSPHERIC))
        pressures = _pressures(task.get("pressure_levels", ()))

        def labels(names: Iterable[str], frame: int | None) -> list[Label]:
            return [
                Label(name, frame, level)
                for name in sorted(names)
                for level in (pressures if name in with_levels else [None])
            ]

        inputs = set(task["input_variables"])
        forcings, outputs = labels(task.get("forcing_variables", ()), 1), labels(task["target_variables"], 1)
        once, each = labels(inputs & static, None), labels(inputs - static, 0)
        rows, columns = channel_counts(checkpoint.parameters)
        frames, rest = divmod(rows - len(once) - len(forcings), max(len(each), 1))
        fits = frames >= 1 and not rest if each else frames == 0
        if not fits or columns != len(outputs):
            raise UserError(
                f"the checkpoint's task_config does not fit its parameters: it names {len(once)} static inputs, "
                f"{len(each)} inputs at each time, {len(forcings)} forcings and {len(outputs)} outputs, but the "
                f"network reads {rows} channels and writes {columns}"
            )
        timed = (label._replace(frame=frame) for frame in range(1 - frames, 1) for label in each)
        # frames within a variable, levels within a frame: sorting is stable
        return cls(tuple(_sorted([*once, *timed])), tuple(forcings), tuple(outputs))

    @property
    def rows(self) -> tuple[Label, ...]:
        """All input channels: inputs, then forcings."""
        return self.inputs + self.forcings

    @property
    def variables(self) -> tuple[str, ...]:
        """Sorted names."""
        return tuple(sorted({label.variable for label in (*self.rows, *self.outputs)}))

    def renamed(self, names: Mapping[str, str]) -> Labels:
        """The same channels in the same order with other names; what is not in `names` keeps its own.

        Raises
        ------
        UserError
            If two variables would have the same name.
        """
        counts = Counter(names.get(name, name) for name in self.variables)
        if twice := [name for name, count in counts.items() if count > 1]:
            those = [name for name in self.variables if names.get(name, name) == twice[0]]
            raise UserError(f"the name {twice[0]} is ambiguous: it stands for {' and '.join(those)}")

        def rename(labels: tuple[Label, ...]) -> tuple[Label, ...]:
            return tuple(label._replace(variable=names.get(label.variable, label.variable)) for label in labels)

        return Labels(rename(self.inputs), rename(self.forcings), rename(self.outputs))

    def sorted(self) -> Labels:
        """In the order a network with these names has its channels in."""
        return Labels(*(tuple(_sorted(labels)) for labels in (self.inputs, self.forcings, self.outputs)))


def deepmind_names(variables: Collection[str]) -> dict[str, str]:
    """DeepMind's names of those Replay variables that have one."""
    return {name: NAMES[name] for name in variables if name in NAMES}


def replay_names(variables: Collection[str]) -> dict[str, str]:
    """Replay's names of those of DeepMind's variables that have one."""
    names = {theirs: ours for ours, theirs in NAMES.items()}
    return {name: names[name] for name in variables if name in names}


def order(have: Sequence[Label], want: Sequence[Label]) -> np.ndarray:
    """Indices that bring channels in the order `have` into the order `want`: array[..., order(have, want)].

    Raises
    ------
    UserError
        If the two are not the same channels.
    """
    places = {label: place for place, label in enumerate(have)}
    wanted = set(want)
    missing = [str(label) for label in want if label not in places]
    surplus = [str(label) for label in have if label not in wanted]
    if missing or surplus or len(have) != len(want):
        raise UserError(
            f"the channels are not the same: {_some(missing) or 'nothing'} is missing, {_some(surplus) or 'nothing'} "
            "is in excess"
        )
    return np.array([places[label] for label in want], np.intp)


def _pressures(levels: Any) -> list[float]:
    numbers = isinstance(levels, tuple) and all(isinstance(one, int | float) for one in levels)
    if not numbers or not all(0 < one < math.inf for one in levels):
        raise UserError(f"task_config:pressure_levels is {reading.shown(levels)}; wanted are pressures in hPa")
    return [float(level) for level in levels]


def permute(network: GraphCast, have: Labels, want: Labels) -> GraphCast:
    """The network that does with channels in the order `want` what `network` does with those in the order `have`.

    Raises
    ------
    UserError
        If the two are not the same channels, or not those of the network.
    """
    if (network.inputs, network.outputs) != (len(have.rows), len(have.outputs)):
        raise UserError(
            f"the network has {network.inputs} inputs and {network.outputs} outputs, but {len(have.rows)} and "
            f"{len(have.outputs)} are labelled"
        )
    rows, columns = order(have.rows, want.rows), order(have.outputs, want.outputs)
    parameters = to_deepmind(network)
    for key in ROWS:
        weight = parameters[key]
        parameters[key] = np.concatenate([weight[rows], weight[len(rows) :]])
    for key in output_tensors(parameters):
        parameters[key] = parameters[key][..., columns]
    return from_deepmind(parameters)


def output_tensors(parameters: Mapping[str, Any]) -> tuple[str, str]:
    """The keys of the weight and the bias whose last axis is the output channels."""
    layer = 0
    while f"{OUTPUT}{layer + 1}:w" in parameters:
        layer += 1
    return f"{OUTPUT}{layer}:w", f"{OUTPUT}{layer}:b"


def channel_counts(parameters: Mapping[str, Any]) -> tuple[int, int]:
    """The numbers of input and output channels.

    Raises
    ------
    UserError
        If the first or the last layer is missing.
    """
    first, last = ROWS[0], output_tensors(parameters)[0]
    for key in (first, last):
        if key not in parameters:
            raise UserError(
                f"the parameter {key} is missing; these are not the parameters of a complete GraphCast network"
            )
    return parameters[first].shape[0] - STRUCTURAL, parameters[last].shape[1]


def _sorted(labels: Iterable[Label]) -> list[Label]:
    return sorted(labels, key=lambda label: label.variable)


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
