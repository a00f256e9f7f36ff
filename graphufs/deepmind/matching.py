"""What two networks have in common: their channels, matched by what they are, and the tensors that fit.

Each multilayer perceptron of the same depth and width can be taken, of its first layer the rows of the input channels
both have, of its last the columns of the output channels both have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphufs.deepmind.initial_report import How, Kept
from graphufs.deepmind.names import ROWS, STAND_INS, STRUCTURAL, Label, Labels, output_tensors
from graphufs.vocabulary.variables import replay_name

Tensors = Mapping[str, np.ndarray]
"""Parameters by DeepMind's names."""
Pairs = tuple[tuple[int, int], ...]
"""Places, here and there, of channels that are the same quantity."""


@dataclass(frozen=True)
class Match:
    """For each channel here its place in the source, None for one the source does not have."""

    places: tuple[int | None, ...]
    labels: tuple[Label, ...]
    theirs: tuple[Label, ...]
    stand_ins: tuple[str, ...]

    @property
    def source_size(self) -> int:
        """The number of the source's channels."""
        return len(self.theirs)

    @property
    def pairs(self) -> Pairs:
        """The places here and there of the channels that are the same quantity; stand-ins are none."""
        return tuple(
            (here, there)
            for here, there in enumerate(self.places)
            if there is not None and self.labels[here].variable == self.theirs[there].variable
        )

    @classmethod
    def of(cls, ours: Sequence[Label], theirs: Sequence[Label]) -> Match:
        """Match channels by what they are, or by what may stand in for it."""
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
        return cls(places, tuple(ours), tuple(theirs), tuple(notes))

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
        texts += [f"new for {grouped(missing, self.labels)}"] if missing else []
        return how, "; ".join(texts)


@dataclass(frozen=True)
class Common:
    """The channels that two networks have in common, and so what one can take of the other."""

    rows: Match
    columns: Match

    @classmethod
    def of(cls, ours: Labels, theirs: Labels) -> Common:
        """The channels here that have a place there."""
        # a quantity may have Replay's name on one side and WeatherBench2's on the other
        names = {replay_name(name): name for name in ours.variables}
        theirs = theirs.renamed({name: names.get(replay_name(name), replay_name(name)) for name in theirs.variables})
        return cls(Match.of(ours.rows, theirs.rows), Match.of(ours.outputs, theirs.outputs))

    def take(self, here: Tensors, there: Tensors, *, zero: bool) -> tuple[dict[str, np.ndarray], list[Kept]]:
        """The tensors here with what fits of those there, and the report; `zero` makes new channels' weights 0.

        Tensors have the shapes that they have here: w [in, out]; b, scale and offset [out].
        """
        axes = {key: (0, self.rows) for key in ROWS} | {key: (-1, self.columns) for key in output_tensors(here)}
        parameters, report = dict(here), []
        for part, keys in _parts(here).items():
            if reasons := _misfits(part, keys, here, there, axes):
                report += [Kept(key, "new", here[key].shape, reasons[key]) for key in keys]
                continue
            for key in keys:
                parameters[key], kept = _take(key, here[key], there[key], axes.get(key), zero=zero)
                report.append(kept)
        left = sorted(set(there) - set(here))
        return parameters, report + [Kept(key, "left out", there[key].shape, "no place here") for key in left]


def _take(
    key: str, here: np.ndarray, there: np.ndarray, axis: tuple[int, Match] | None, *, zero: bool
) -> tuple[np.ndarray, Kept]:
    """A tensor that fits, with the rows or columns of the channels both have."""
    if axis is None:
        return there.astype(here.dtype), Kept(key, "kept", here.shape)
    along, match = axis
    how, why = match.describe()
    blank = np.zeros_like(here) if zero else here.copy()
    if how == "new":
        return blank, Kept(key, how, here.shape, why)
    # the structural rows follow the channels' and are the same in every network
    extra = STRUCTURAL if along == 0 else 0
    places = [*match.places, *range(match.source_size, match.source_size + extra)]
    mine = [index for index, place in enumerate(places) if place is not None]
    values = np.moveaxis(blank, along, 0)
    values[mine] = np.moveaxis(there, along, 0)[[place for place in places if place is not None]]
    return np.moveaxis(values, 0, along), Kept(key, how, here.shape, why)


def _misfits(
    part: str, keys: Sequence[str], here: Tensors, there: Tensors, axes: Mapping[str, tuple[int, Match]]
) -> dict[str, str]:
    """Why each tensor of a perceptron cannot be taken; empty if all can. All of them are taken, or none."""
    layers, other_layers = (sum(key.endswith(":w") for key in of_part(part, tensors)) for tensors in (here, there))
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


def _parts(tensors: Tensors) -> dict[str, list[str]]:
    """The tensors of each perceptron with its normalization."""
    parts: dict[str, list[str]] = {}
    for key in tensors:
        parts.setdefault(key.rsplit("_mlp/~/", 1)[0].rsplit("_layer_norm:", 1)[0], []).append(key)
    return parts


def of_part(part: str, tensors: Tensors) -> list[str]:
    """The names of the tensors of a perceptron's layers."""
    return [key for key in tensors if key.startswith(f"{part}_mlp/~/")]


def _shape(key: str, shape: Sequence[int]) -> str:
    if key in ROWS:
        return f"[{shape[0] - STRUCTURAL}+{STRUCTURAL}, {shape[1]}]"
    return str(list(shape))


def grouped(missing: Sequence[Label], everything: Sequence[Label]) -> str:
    """Labels, with a variable that is missing altogether named once."""
    texts = []
    for name in dict.fromkeys(label.variable for label in missing):
        of_it = [label for label in missing if label.variable == name]
        whole = len(of_it) > 1 and len(of_it) == sum(label.variable == name for label in everything)
        texts += [f"{name} (all {len(of_it)})"] if whole else [str(label) for label in of_it]
    return ", ".join(texts)
