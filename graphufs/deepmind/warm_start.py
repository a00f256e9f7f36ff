"""Initial weights from another training: from DeepMind's released file, or from one of our checkpoints.

What is common to both networks is kept: each multilayer perceptron of the same depth and width, the rows of its first
layer for the input channels both have (by variable, level and frame), the columns of its last layer for the output
channels both have. Everything else stays as the experiment's seed made it. The report names every tensor.

Channels are told apart by what they are, not by their place, so the two networks may have other variables, levels,
numbers of frames, or names. Weights carry over from one data set to another because a network sees and makes normalised
values; this experiment's statistics are used from then on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphufs.deepmind.export import labels_of, model_config
from graphufs.deepmind.names import (
    ROWS,
    STAND_INS,
    STRUCTURAL,
    Label,
    Labels,
    channel_counts,
    output_tensors,
    replay_names,
)
from graphufs.deepmind.npz import from_deepmind, read_checkpoint, to_deepmind
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.network import GraphCast

How = Literal["kept", "permuted", "in part", "new", "left out"]

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Kept:
    """What became of one tensor, by DeepMind's name, and why, or of which channels.

    `kept` as it is, `permuted` (the source's rows or columns in another order, or a choice of them), `in part` (some
    rows or columns are the source's, the others new), `new`, or `left out` (only the source has it: then the shape is
    the source's).
    """

    tensor: str
    how: How
    shape: tuple[int, ...]
    why: str = ""


@dataclass(frozen=True)
class InitialReport:
    """Where the initial weights come from, tensor by tensor, and how the two trainings differ otherwise."""

    source: str
    tensors: tuple[Kept, ...]
    remarks: tuple[str, ...] = ()

    def count(self, how: How) -> int:
        """The number of tensors of which this is true."""
        return sum(tensor.how == how for tensor in self.tensors)

    @property
    def summary(self) -> str:
        """One line."""
        words: tuple[How, ...] = ("kept", "permuted", "in part", "new", "left out")
        counts = ", ".join(f"{self.count(how)} {how}" for how in words if self.count(how))
        return f"initial weights from {self.source}: of {len(self.tensors)} tensors {counts}"

    def lines(self) -> list[str]:
        """As text: the summary, the remarks, and the tensors that are not simply kept."""
        tensors = [tensor for tensor in self.tensors if tensor.how != "kept"]
        return [self.summary, *self.remarks, *(
            f"{tensor.how}: {tensor.tensor} {list(tensor.shape)}" + (f" ({tensor.why})" if tensor.why else "")
            for tensor in tensors
        )]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As JSON objects."""
        return asdict(self)


def initial_network(emulator: ReplayEmulator, source: Path | str) -> tuple[GraphCast, InitialReport]:
    """The network of an untrained emulator with what fits of another training's weights, and the report of that.

    The source is a file in DeepMind's npz format, or a checkpoint folder of ours; what does not fit keeps its
    parameters.

    Raises
    ------
    UserError
        If there is no such source, its channels are unknown, nothing of it fits, or training.init_partial is false and
        some of its inputs or outputs have no place here.
    """
    source = Path(source)
    other, ours = _Source.read(source), labels_of(emulator)
    here, there, theirs = to_deepmind(emulator.network), other.parameters, other.labels
    rows, columns = _Match.of(ours.rows, theirs.rows), _Match.of(ours.outputs, theirs.outputs)
    axes = {key: (0, rows) for key in ROWS} | {key: (-1, columns) for key in output_tensors(here)}
    parameters, report = dict(here), []
    for part, keys in _parts(here).items():
        if reasons := _misfits(part, keys, here, there, axes):
            report += [Kept(key, "new", here[key].shape, reasons[key]) for key in keys]
            continue
        for key in keys:
            parameters[key], kept = _take(key, here[key], there[key], axes.get(key))
            report.append(kept)
    report += [Kept(key, "left out", there[key].shape, "no place here") for key in sorted(set(there) - set(here))]
    if not any(tensor.how in ("kept", "permuted", "in part") for tensor in report):
        raise UserError(
            f"nothing of {source} fits this network: here {_sizes(here)}; there {_sizes(there)}. Set the experiment's "
            "model section to the sizes there, or train without init_from"
        )
    if not emulator.experiment.training.init_partial:
        _require_all(source, {"inputs": (rows, theirs.rows), "outputs": (columns, theirs.outputs)})
    return from_deepmind(parameters), InitialReport(str(source), tuple(report), tuple(_remarks(emulator, other)))


def _require_all(source: Path, kinds: Mapping[str, tuple[_Match, Sequence[Label]]]) -> None:
    for kind, (match, labels) in kinds.items():
        taken = {place for place in match.places if place is not None}
        if left := [label for place, label in enumerate(labels) if place not in taken]:
            raise UserError(
                f"this experiment has {len(taken)} of the {len(labels)} {kind} of {source}, not "
                f"{_grouped(left, labels)}. Give the experiment those too; or go on without them by "
                "--partial (training.init_partial)"
            )


def require_weights(path: Path) -> None:
    """Check that there are weights to start from at a path.

    Raises
    ------
    UserError
        If there are none, or they cannot be read.
    """
    _Source.read(path)


@dataclass(frozen=True)
class _Source:
    """Where weights come from: parameters, what their channels are (by Replay's names), sizes, hours of a step."""

    parameters: Tensors
    labels: Labels
    model_config: Mapping[str, Any]
    time_step: float | None

    @classmethod
    def read(cls, path: Path) -> _Source:
        if (path / "meta.json").is_file():
            emulator = ReplayEmulator.from_checkpoint(path)
            step = emulator.experiment.data.time_step
            return cls(to_deepmind(emulator.network), labels_of(emulator), model_config(emulator), step)
        if path.is_file():
            file = read_checkpoint(path)
            labels = Labels.of_checkpoint(file)
            frames = 1 - min((label.frame for label in labels.inputs if label.frame is not None), default=1)
            duration = re.fullmatch(r"(\d+)h", str(file.task_config.get("input_duration")))
            step_there = int(duration[1]) / frames if duration and frames else None
            # channels of the same name are the same quantity once both sides speak Replay's names
            labels = labels.renamed(replay_names(labels.variables))
            return cls(file.parameters, labels, file.model_config, step_there)
        found = "holds no meta.json" if path.is_dir() else "does not exist"
        if path.parts[-5:-4] == ("runs",) and path.parts[-2] == "checkpoints" and not path.exists():
            found += f", as a training of the experiment {path.parts[-4]} would have made it; train that first"
        raise UserError(
            f"init_from: {path} {found}; give a checkpoint folder (as in RUN/checkpoints/00001000) or a file in "
            "DeepMind's npz format"
        )


@dataclass(frozen=True)
class _Match:
    """For each channel here its place in the source, None for one the source does not have."""

    places: tuple[int | None, ...]
    labels: tuple[Label, ...]
    source_size: int
    stand_ins: tuple[str, ...]

    @classmethod
    def of(cls, ours: Sequence[Label], theirs: Sequence[Label]) -> _Match:
        index = {label: place for place, label in enumerate(theirs)}
        names = {label.variable for label in theirs}
        substitutes = {}
        for pair in STAND_INS:
            for mine, other in ((pair.one, pair.other), (pair.other, pair.one)):
                # only for a variable missing from the source, and only if no channel here has a better claim
                if mine not in names and other in names and other not in {label.variable for label in ours}:
                    substitutes[mine] = (other, pair.difference)
        places = tuple(
            index.get(label._replace(variable=substitutes.get(label.variable, (label.variable,))[0])) for label in ours
        )
        used = {label.variable for label, place in zip(ours, places, strict=True) if place is not None}
        notes = [f"{mine} from {other} ({text})" for mine, (other, text) in substitutes.items() if mine in used]
        return cls(places, tuple(ours), len(theirs), tuple(notes))

    def describe(self) -> tuple[How, str]:
        """What becomes of a tensor with these rows or columns, and why."""
        missing = [label for label, place in zip(self.labels, self.places, strict=True) if place is None]
        taken = len(self.places) - len(missing)
        if not missing and self.places == tuple(range(self.source_size)):
            how: How = "kept"
        else:
            how = ("in part" if taken else "new") if missing else "permuted"
        texts = [] if how == "kept" else [f"{taken} of the source's {self.source_size} channels"]
        texts += list(self.stand_ins)
        texts += [f"new for {_grouped(missing, self.labels)}"] if missing else []
        return how, "; ".join(texts)


def _take(key: str, here: np.ndarray, there: np.ndarray, axis: tuple[int, _Match] | None) -> tuple[np.ndarray, Kept]:
    """A tensor that fits, with the rows or columns of the channels both have."""
    if axis is None:
        return there.astype(here.dtype), Kept(key, "kept", here.shape)
    along, match = axis
    how, why = match.describe()
    if how == "new":
        return here, Kept(key, how, here.shape, why)
    # the structural rows follow the channels' and are the same in every network
    extra = STRUCTURAL if along == 0 else 0
    places = [*match.places, *range(match.source_size, match.source_size + extra)]
    mine = [index for index, place in enumerate(places) if place is not None]
    values = np.moveaxis(here.copy(), along, 0)
    values[mine] = np.moveaxis(there, along, 0)[[place for place in places if place is not None]]
    return np.moveaxis(values, 0, along), Kept(key, how, here.shape, why)


def _misfits(
    part: str, keys: Sequence[str], here: Tensors, there: Tensors, axes: Mapping[str, tuple[int, _Match]]
) -> dict[str, str]:
    """Why each tensor of a perceptron cannot be taken; empty if all can. All of them are taken, or none."""
    layers, other_layers = (sum(key.endswith(":w") for key in _of(part, tensors)) for tensors in (here, there))
    if layers and not other_layers:
        return dict.fromkeys(keys, "the source has no such part")
    if layers != other_layers:
        return dict.fromkeys(keys, f"other depth: {layers} layers here, {other_layers} there")
    reasons = {}
    for key in keys:
        if key not in there:
            reasons[key] = "the source has no such tensor"
            continue
        shapes = [list(tensors[key].shape) for tensors in (here, there)]
        if key in axes:
            del shapes[0][axes[key][0]], shapes[1][axes[key][0]]
        if shapes[0] != shapes[1]:
            mine, theirs = (_shape(key, tensors[key].shape) for tensors in (here, there))
            reasons[key] = f"other shape: {mine} here, {theirs} there"
    if not reasons:
        return {}
    return {key: reasons.get(key, "belongs to layers of another shape") for key in keys}


def _remarks(emulator: ReplayEmulator, other: _Source) -> Iterable[str]:
    """Differences that forbid nothing but that a reader should know."""
    mine, step = model_config(emulator), emulator.experiment.data.time_step
    for name in ("resolution", "mesh_size", "radius_query_fraction_edge_length", "mesh2grid_edge_normalization_factor"):
        if mine[name] != other.model_config.get(name):
            yield f"{name} is {mine[name]} here, {other.model_config.get(name)} there"
    if other.time_step is not None and other.time_step != step:
        yield f"the time step is {step} h here, {other.time_step:g} h there; frames are matched by their number"


def _parts(tensors: Tensors) -> dict[str, list[str]]:
    """The tensors of each perceptron with its normalization."""
    parts: dict[str, list[str]] = {}
    for key in tensors:
        parts.setdefault(key.rsplit("_mlp/~/", 1)[0].rsplit("_layer_norm:", 1)[0], []).append(key)
    return parts


def _of(part: str, tensors: Tensors) -> list[str]:
    return [key for key in tensors if key.startswith(f"{part}_mlp/~/")]


def _sizes(tensors: Tensors) -> str:
    inputs, outputs = channel_counts(tensors)
    steps = sum("/processor_edges_" in key and key.endswith("_mesh_mlp/~/linear_0:w") for key in tensors)
    layers = sum(key.endswith(":w") for key in _of(ROWS[0].rsplit("_mlp/~/", 1)[0], tensors))
    latent = tensors[ROWS[0]].shape[1]
    return (
        f"{inputs} inputs, {outputs} outputs, latent size {latent}, {steps} message steps, {layers - 1} hidden layers"
    )


def _shape(key: str, shape: Sequence[int]) -> str:
    if key in ROWS:
        return f"[{shape[0] - STRUCTURAL}+{STRUCTURAL}, {shape[1]}]"
    return str(list(shape))


def _grouped(missing: Sequence[Label], everything: Sequence[Label]) -> str:
    """Labels, with a variable that is missing altogether named once."""
    texts = []
    for name in dict.fromkeys(label.variable for label in missing):
        of_it = [label for label in missing if label.variable == name]
        whole = len(of_it) > 1 and len(of_it) == sum(label.variable == name for label in everything)
        texts += [f"{name} (all {len(of_it)})"] if whole else [str(label) for label in of_it]
    return ", ".join(texts)
