"""Initial weights from another training: from DeepMind's released file, or from one of our checkpoints.

What is common to both networks is kept: each multilayer perceptron of the same depth and width, the rows of its first
layer for the input channels both have (by variable, level and frame), the columns of its last layer for the output
channels both have. Everything else stays as the experiment's seed made it. The report names every tensor.

Channels are told apart by what they are, not by their place, so the two networks may have other variables, levels,
numbers of frames, or names. Weights carry over from one data set to another because a network sees and makes normalised
values; which statistics are used from then on, and whether the weights are changed to suit them,
training.init_statistics says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphufs import reading
from graphufs.deepmind.export import labels_of, model_config
from graphufs.deepmind.initial_report import InitialReport, Kept
from graphufs.deepmind.matching import Common, Match, Tensors, grouped, of_part
from graphufs.deepmind.names import ROWS, Labels, channel_counts, output_tensors
from graphufs.deepmind.npz import from_deepmind, read_checkpoint, to_deepmind
from graphufs.deepmind.refinement import divide_sums, growth_of_sums
from graphufs.deepmind.rescaling import Scaling, rescale_inputs, rescale_outputs, statistics_of_source
from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.network import GraphCast


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
    source, settings = Path(source), emulator.experiment.training
    other = _Source.read(source)
    common, parameters, report = _taken(emulator, source, other)
    if settings.init_statistics == "rescaled":
        report = _rescale(parameters, report, common, emulator, _with_statistics(source, other, "rescaled"))
    network, remarks = from_deepmind(parameters), list(_remarks(emulator, other))
    if other.emulator is not None and (growth := growth_of_sums(emulator, other.emulator)) != 1:
        network = divide_sums(network, growth)
        remarks.append(f"the sums of messages from the grid are divided by {growth:.4g}, by which their edges grew")
    return network, InitialReport(str(source), tuple(report), tuple(remarks))


def initial_moments(emulator: ReplayEmulator, source: Path | str) -> tuple[np.ndarray, GraphCast, GraphCast]:
    """The optimizer's state of another training: its count of updates, a scalar, and both moments as networks.

    What is new here, or was frozen there, has moments of zero.

    Raises
    ------
    UserError
        If the source has no optimizer's state, and as `initial_network`.
    """
    source = Path(source)
    other = _Source.read(source)
    there, count, arrays = _optimizer(source, other)
    common = Common.of(labels_of(emulator), other.labels)
    found = []
    here = {key: np.zeros(values.shape, np.float32) for key, values in to_deepmind(emulator.network).items()}
    for moment in ("mu", "nu"):
        stored = {
            name.split(f".{moment}", 1)[1]: values
            for name, values in arrays.items()
            if re.match(rf"optimizer.*\.{moment}\.", name)
        }
        like = checkpoint.flatten(there.network, "")
        whole = {name: stored.get(name, np.zeros_like(values)) for name, values in like.items()}
        moments = to_deepmind(checkpoint.unflatten(there.network, whole, "", source))
        found.append(from_deepmind(common.take(here, moments, zero=True)[0]))
    return count, found[0], found[1]


def with_source_statistics(emulator: ReplayEmulator, source: Path | str) -> ReplayEmulator:
    """The emulator with another training's statistics, of the variables and levels that both have.

    Raises
    ------
    UserError
        If there is no such source, or it has no statistics.
    """
    return replace(emulator, statistics=statistics_of_source(emulator, emulator_of(Path(source))))


def emulator_of(source: Path) -> ReplayEmulator:
    """The emulator, with its statistics, that training.init_from names.

    Raises
    ------
    UserError
        If there is no such source, or it has no statistics.
    """
    return _with_statistics(source, _Source.read(source), "source")


def _with_statistics(source: Path, other: _Source, asked: str) -> ReplayEmulator:
    if other.emulator is None:
        raise UserError(
            f"init_from: {source} is a file in DeepMind's format, which holds no statistics, and "
            f"training.init_statistics is {asked}; make a checkpoint of it by `graphufs import-deepmind`, and give that"
        )
    return other.emulator


def _rescale(
    parameters: dict[str, np.ndarray], report: list[Kept], common: Common, here: ReplayEmulator, there: ReplayEmulator
) -> list[Kept]:
    """Change the weights of the first and the last layer so that they do with statistics here what they did there."""
    weight, bias = output_tensors(parameters)
    changed: list[str] = []
    taken = {tensor.tensor for tensor in report if tensor.how in ("kept", "permuted", "in part")}
    first = ROWS[0], f"{ROWS[0].removesuffix(':w')}:b"
    if first[0] in taken:
        scaling = Scaling.of_inputs(here), Scaling.of_inputs(there)
        rescale_inputs(parameters, first, common.rows.pairs, *scaling)
        changed += first
    if weight in taken:
        scaling = Scaling.of_outputs(here), Scaling.of_outputs(there)
        rescale_outputs(parameters, (weight, bias), common.columns.pairs, *scaling)
        changed += [weight, bias]
    return [
        replace(
            one,
            how="rescaled" if one.how == "kept" else one.how,
            why="; ".join(filter(None, [one.why, "rescaled to the statistics here"])),
        )
        if one.tensor in changed
        else one
        for one in report
    ]


def _require_all(source: Path, kinds: Mapping[str, Match]) -> None:
    for kind, match in kinds.items():
        labels, taken = match.theirs, {place for place in match.places if place is not None}
        if left := [label for place, label in enumerate(labels) if place not in taken]:
            raise UserError(
                f"this experiment has {len(taken)} of the {len(labels)} {kind} of {source}, not "
                f"{grouped(left, labels)}. Give the experiment those too; or go on without them by "
                "--partial (training.init_partial)"
            )


def require_weights(emulator: ReplayEmulator, source: Path) -> None:
    """Check, without statistics, that a training of an untrained emulator could start from weights.

    Raises
    ------
    UserError
        As `initial_network` and `initial_moments`.
    """
    other, settings = _Source.read(source), emulator.experiment.training
    _taken(emulator, source, other)
    if settings.init_statistics != "new":
        _with_statistics(source, other, settings.init_statistics)
    if settings.init_optimizer:
        _optimizer(source, other)


def _taken(emulator: ReplayEmulator, source: Path, other: _Source) -> tuple[Common, dict[str, np.ndarray], list[Kept]]:
    """The channels that an emulator has in common with a source, and its parameters with what fits, and the report."""
    settings, here = emulator.experiment.training, to_deepmind(emulator.network)
    common = Common.of(labels_of(emulator), other.labels)
    parameters, report = common.take(here, other.parameters, zero=settings.init_new == "zero")
    if not any(tensor.how in ("kept", "permuted", "in part") for tensor in report):
        raise UserError(
            f"nothing of {source} fits this network: here {_sizes(here)}; there {_sizes(other.parameters)}. Set the "
            "experiment's model section to the sizes there, or train without init_from"
        )
    if not settings.init_partial:
        _require_all(source, {"inputs": common.rows, "outputs": common.columns})
    return common, parameters, report


def _optimizer(source: Path, other: _Source) -> tuple[ReplayEmulator, np.ndarray, dict[str, np.ndarray]]:
    """A source that a training wrote, its optimizer's count of updates, and all arrays of its state by name."""
    arrays = checkpoint.read_arrays(source, "training.npz") if other.emulator is not None else {}
    count = next((values for name, values in arrays.items() if re.fullmatch(r"optimizer.*\.count", name)), None)
    if other.emulator is None or count is None:
        raise UserError(
            f"init_from: {source} holds no state of an optimizer, which training.init_optimizer asks for; leave that "
            "out, or give a checkpoint that a training wrote"
        )
    return other.emulator, count, arrays


@dataclass(frozen=True)
class _Source:
    """Where weights come from: parameters, what their channels are, sizes, hours of a step."""

    parameters: Tensors
    labels: Labels
    model_config: Mapping[str, Any]
    time_step: float | None
    emulator: ReplayEmulator | None = None
    """None for a file in DeepMind's format, which has no statistics."""

    @classmethod
    def read(cls, path: Path) -> _Source:
        if (path / "meta.json").is_file():
            emulator = ReplayEmulator.from_checkpoint(path)
            step = emulator.experiment.data.time_step
            return cls(to_deepmind(emulator.network), labels_of(emulator), model_config(emulator), step, emulator)
        if path.is_file():
            file = read_checkpoint(path)
            labels = Labels.of_checkpoint(file)
            frames = 1 - min((label.frame for label in labels.inputs if label.frame is not None), default=1)
            duration = re.fullmatch(r"(\d+)h", str(file.task_config.get("input_duration")))
            step_there = int(duration[1]) / frames if duration and frames else None
            return cls(file.parameters, labels, file.model_config, step_there)
        found = "holds no meta.json" if path.is_dir() else "does not exist"
        if path.parts[-5:-4] == ("runs",) and path.parts[-2] == "checkpoints" and not path.exists():
            found += f", as a training of the experiment {path.parts[-4]} would have made it; train that first"
        raise UserError(
            f"init_from: {reading.in_one_line(str(path))} {found}; give a checkpoint folder (as in "
            "RUN/checkpoints/00001000) or a file in DeepMind's npz format"
        )


def _remarks(emulator: ReplayEmulator, other: _Source) -> Iterable[str]:
    """Differences that forbid nothing but that a reader should know."""
    mine, step = model_config(emulator), emulator.experiment.data.time_step
    for name in ("resolution", "mesh_size", "radius_query_fraction_edge_length", "mesh2grid_edge_normalization_factor"):
        if mine[name] != other.model_config.get(name):
            yield f"{name} is {mine[name]} here, {other.model_config.get(name)} there"
    if other.time_step is not None and other.time_step != step:
        yield f"the time step is {step} h here, {other.time_step:g} h there; frames are matched by their number"


def _sizes(tensors: Tensors) -> str:
    inputs, outputs = channel_counts(tensors)
    steps = sum("/processor_edges_" in key and key.endswith("_mesh_mlp/~/linear_0:w") for key in tensors)
    layers = sum(key.endswith(":w") for key in of_part(ROWS[0].rsplit("_mlp/~/", 1)[0], tensors))
    latent = tensors[ROWS[0]].shape[1]
    return (
        f"{inputs} inputs, {outputs} outputs, latent size {latent}, {steps} message steps, {layers - 1} hidden layers"
    )
