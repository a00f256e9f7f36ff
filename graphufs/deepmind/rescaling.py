"""Weights and statistics that go together: the one changed to suit the other.

A network sees x = (X - m)/s of an input X, and its output y stands for M + S y of a target: with M = 0 and S the
standard deviation of differences for one that is predicted as a change, else with mean and standard deviation. Other
statistics m', s', M', S' leave every forecast as it is, but for rounding, if

    w' = w s'/s,   b' = b + sum w (m' - m)/s       for the rows w of the first layer and its bias,
    v' = v S/S',   c' = (c S + M - M')/S'          for the columns v of the last layer and its bias.

Where an input is masked the network sees 0, whatever the statistics: there, and where a change of mean meets a mask,
the two differ. Quantities are compared in Replay's units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphufs.deepmind.matching import Pairs
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.channels import Slot
from graphufs.normalization.statistics import Statistics
from graphufs.vocabulary.variables import BY_REPLAY, BY_WEATHERBENCH, replay_name

KINDS = ("mean", "std", "diffs_std")


@dataclass(frozen=True)
class Scaling:
    """What channels are in Replay's units: `mean` + `std` x, float64 [channel]; and which are changes, bool."""

    mean: np.ndarray
    std: np.ndarray
    change: np.ndarray
    variables: tuple[str, ...]

    @classmethod
    def of_inputs(cls, emulator: ReplayEmulator) -> Scaling:
        """That of the inputs and forcings of an emulator's network."""
        return cls._of(emulator, (*emulator.channels.inputs, *emulator.channels.forcings), changes=frozenset())

    @classmethod
    def of_outputs(cls, emulator: ReplayEmulator) -> Scaling:
        """That of the outputs."""
        changes = frozenset(emulator.channels.input_variables) & frozenset(emulator.channels.target_variables)
        return cls._of(emulator, emulator.channels.outputs, changes=changes)

    @classmethod
    def _of(cls, emulator: ReplayEmulator, slots: tuple[Slot, ...], *, changes: frozenset[str]) -> Scaling:
        assert emulator.statistics is not None
        found = emulator.statistics
        mean, std, change = np.zeros(len(slots)), np.ones(len(slots)), np.zeros(len(slots), bool)
        for place, slot in enumerate(slots):
            factor, change[place] = _to_replay(emulator, slot.variable), slot.variable in changes
            if change[place]:
                std[place] = factor * _at(found.diffs_std, slot, 1.0)
            else:
                mean[place] = factor * _at(found.mean, slot, 0.0)
                std[place] = factor * _at(found.std, slot, 1.0)
        return cls(mean, std, change, tuple(slot.variable for slot in slots))


def rescale_inputs(
    parameters: dict[str, np.ndarray], keys: tuple[str, str], pairs: Pairs, here: Scaling, there: Scaling
) -> None:
    """Change the first layer, weight [channel, latent] and bias [latent] by their keys, which was made for `there`."""
    weight, bias = (parameters[key].astype(np.float64) for key in keys)
    for mine, theirs in pairs:
        bias += weight[mine] * (here.mean[mine] - there.mean[theirs]) / there.std[theirs]
        weight[mine] *= here.std[mine] / there.std[theirs]
    parameters |= {key: values.astype(np.float32) for key, values in zip(keys, (weight, bias), strict=True)}


def rescale_outputs(
    parameters: dict[str, np.ndarray], keys: tuple[str, str], pairs: Pairs, here: Scaling, there: Scaling
) -> None:
    """Change the last layer, weight [latent, channel] and bias [channel] by their keys, which was made for `there`.

    Raises
    ------
    UserError
        If a target is predicted as a change on one side only.
    """
    weight, bias = (parameters[key].astype(np.float64) for key in keys)
    for mine, theirs in pairs:
        if here.change[mine] != there.change[theirs]:
            here_is, there_is = ("a change" if one else "a value" for one in (here.change[mine], there.change[theirs]))
            raise UserError(
                f"{here.variables[mine]} is predicted as {here_is} here and as {there_is} by init_from, so its weights "
                "cannot be rescaled; make it an input (or none) as there, or set training.init_statistics to new"
            )
        ratio = there.std[theirs] / here.std[mine]
        weight[:, mine] *= ratio
        bias[mine] = bias[mine] * ratio + (there.mean[theirs] - here.mean[mine]) / here.std[mine]
    parameters |= {key: values.astype(np.float32) for key, values in zip(keys, (weight, bias), strict=True)}


def statistics_of_source(emulator: ReplayEmulator, source: ReplayEmulator) -> Statistics:
    """An emulator's statistics with those of another, in the units here, of the variables and levels both have."""
    assert emulator.statistics is not None and source.statistics is not None
    mine, names = emulator.statistics, {replay_name(name): name for name in source.statistics.mean}
    own: dict[str, dict[str, np.ndarray]] = {kind: dict(getattr(mine, kind)) for kind in KINDS}
    for name in mine.mean:
        other = names.get(replay_name(name))
        if other is None or _transform(emulator, name) != _transform(source, other):
            continue
        factor = _to_replay(source, other) / _to_replay(emulator, name)
        wanted, there = (
            [level for level, _ in one.domain.levels(called)] if called in one.domain.slices else []
            for one, called in ((emulator, name), (source, other))
        )
        places = [(at, there.index(level)) for at, level in enumerate(wanted) if level in there] or [(0, 0)]
        if bool(wanted) != bool(there) or (wanted and not set(wanted) & set(there)):
            continue
        for kind in KINDS:
            values = getattr(source.statistics, kind).get(other)
            if values is not None and name in own[kind]:
                own[kind][name] = own[kind][name].astype(np.float64)
                for at, place in places:
                    own[kind][name][at] = factor * values[place]
    return Statistics(own["mean"], own["std"], own["diffs_std"], mine.native, mine.vertical)


def statistics_as_there(emulator: ReplayEmulator, source: ReplayEmulator) -> Statistics:
    """Those of another emulator with the same variables and levels, in the units and by the names here."""
    assert source.statistics is not None
    data = emulator.experiment.data
    names = {replay_name(name): name for name in (*data.inputs, *data.targets, *data.forcings)}
    mean, std, diffs_std = (
        {
            names[replay_name(name)]: np.full(max(len(emulator.domain.levels(names[replay_name(name)])), 1), np.nan)
            for name in getattr(source.statistics, kind)
        }
        for kind in KINDS
    )
    return statistics_of_source(replace(emulator, statistics=Statistics(mean, std, diffs_std)), source)


def _at(values: Mapping[str, np.ndarray], slot: Slot, default: float) -> float:
    found = values.get(slot.variable)
    return default if found is None else float(np.broadcast_to(found, max(len(found), slot.level + 1))[slot.level])


def _transform(emulator: ReplayEmulator, name: str) -> object:
    return emulator.experiment.data.transforms.get(name)


def _to_replay(emulator: ReplayEmulator, name: str) -> float:
    """The factor from the units of an emulator's variable to Replay's."""
    if _transform(emulator, name) is not None or name in BY_REPLAY or name not in BY_WEATHERBENCH:
        return 1.0
    return 1.0 / BY_WEATHERBENCH[name].scale
