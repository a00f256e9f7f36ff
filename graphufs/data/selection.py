"""What an experiment takes from a store, and every reason why it cannot, said before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphufs.config.experiment import Experiment
from graphufs.data.channels import PreparedChannel
from graphufs.errors import UserError
from graphufs.replay.levels import match_levels
from graphufs.replay.source import ReplayStore
from graphufs.replay.times import hours, stamps_in, text
from graphufs.replay.variable_facts import VariableFacts
from graphufs.storage import packing
from graphufs.storage.paths import thickness_variable
from graphufs.vocabulary.variables import check_variables


@dataclass(frozen=True)
class Selection:
    """The part of a store an experiment needs.

    `levels` holds, for each variable with levels, the indices to take along its vertical dimension, in the channels'
    order.
    """

    channels: tuple[PreparedChannel, ...]
    static: tuple[str, ...]
    facts: dict[str, VariableFacts]
    levels: dict[str, np.ndarray]

    @property
    def varying(self) -> tuple[str, ...]:
        """The time-varying variables, sorted."""
        return tuple(sorted({channel.variable for channel in self.channels}))


def check(store: ReplayStore, experiment: Experiment) -> Selection:
    """Check an experiment against an open store, and return what it takes from it.

    Raises
    ------
    UserError
        See `select` and `check_times`; and if the variables cannot be packed as data.storage asks for.
    """
    selection = select(store, experiment)
    check_times(store, experiment)
    if experiment.data.storage == "int16":
        _check_packing(selection, experiment, store.url)
    return selection


def _check_packing(selection: Selection, experiment: Experiment, url: str) -> None:
    """Refuse to pack what would lose more than the store lost, or what small values of matter for."""
    for name in selection.varying:
        bits = selection.facts[name].attributes.get("nbits")
        if isinstance(bits, int | float) and bits > packing.BITS:
            raise UserError(
                f"data.storage is int16, as good as {packing.BITS} bits of a field's range, and {name} of {url} has "
                f"{bits:g} (nbits); choose data.storage: float32"
            )
        if bits is None and name in experiment.data.transforms:
            raise UserError(
                f"data.storage is int16, data.transforms takes the {experiment.data.transforms[name].function} of "
                f"{name}, and {url} does not say to how many bits that is known (nbits): small values would be lost. "
                "Choose data.storage: float32"
            )


def prepared_variables(experiment: Experiment) -> tuple[str, ...]:
    """The variables to prepare, sorted: those of the experiment, and the layer thickness if it weights statistics."""
    names = set(experiment.data.stored_variables)
    if experiment.normalization.weights == "volume" and experiment.normalization.url is None:
        names.add(thickness_variable(experiment.data.source.component))
    return tuple(sorted(names))


def select(store: ReplayStore, experiment: Experiment) -> Selection:
    """Choose variables and levels.

    Raises
    ------
    UserError
        For an unknown variable, a level not in the store, levels not given, or a use a variable is not fit for.
    """
    names = prepared_variables(experiment)
    check_variables([name for name in names if not store.has(name)], store.names, store.url)
    if idle := sorted(set(experiment.data.accept_implausible) - set(names)):
        raise UserError(
            f"data.accept_implausible names {', '.join(idle)}, which is not read; what is read is {', '.join(names)}"
        )
    facts = {name: store.facts(name) for name in names}
    _check_uses(facts, experiment)
    wanted = sorted(experiment.data.levels)
    channels: list[PreparedChannel] = []
    static: list[str] = []
    levels: dict[str, np.ndarray] = {}
    for name in names:
        vertical = facts[name].vertical
        if not facts[name].varies:
            if vertical:
                raise UserError(
                    f"{name} of {store.url} has levels ({vertical}) and no time; static variables must be horizontal "
                    "fields. Take it out of the experiment"
                )
            static.append(name)
        elif vertical is None:
            channels.append(PreparedChannel(name))
        else:
            native = store.levels(vertical)
            if not wanted:
                raise UserError(
                    f"{name} has levels, but data.levels names none; the store has "
                    + ", ".join(f"{value:.7g}" for value in native)
                )
            levels[name] = match_levels(
                native,
                wanted,
                experiment.data.level_match,
                where=f"{name} of {store.url} ({vertical})",
                on_pressure_levels=store.on_pressure_levels,
            )
            channels += [
                PreparedChannel(name, level, float(native[index]))
                for level, index in zip(wanted, levels[name], strict=True)
            ]
    if not channels:
        raise UserError("none of the experiment's variables changes with time; nothing could be predicted")
    return Selection(tuple(channels), tuple(static), facts, levels)


def _check_uses(facts: dict[str, VariableFacts], experiment: Experiment) -> None:
    data = experiment.data
    for use, names in (("target", data.targets), ("forcing", data.forcings)):
        constant = sorted(name for name in names if name in facts and not facts[name].varies)
        if constant:
            raise UserError(
                f"{', '.join(constant)} does not change with time and cannot be a {use}; list it in data.inputs only"
            )
    known = set(data.targets) | set(data.forcings)
    lost = sorted(name for name in data.inputs if name in facts and facts[name].varies and name not in known)
    if lost:
        raise UserError(
            f"{', '.join(lost)} changes with time and is an input, so a forecast needs it beyond the initial time: "
            "add it to data.targets (to be predicted) or to data.forcings (known in advance)"
        )


def check_times(store: ReplayStore, experiment: Experiment) -> None:
    """Refuse periods outside the record and a time step its stamps cannot give.

    Stamps that are missing inside the record are no error; `prepare` names them.

    Raises
    ------
    UserError
        Naming the period and the record, or the step and the store's own.
    """
    step = experiment.data.time_step
    if not store.times.size:
        raise UserError(f"the store {store.url} has no stamps at all")
    first, last = store.times[0], store.times[-1]
    for name, period in experiment.periods.items():
        stamps = stamps_in(period, step)
        if stamps[0] < first or stamps[-1] > last:
            raise UserError(
                f"the {name} period {period} reaches outside the record of {store.url}, which runs from {text(first)} "
                f"to {text(last)}; choose a period inside it"
            )
    if store.times.size < 2:
        return
    spacings, counts = np.unique(np.diff(store.times), return_counts=True)
    spacing = spacings[np.argmax(counts)]
    own = spacing / hours(1)
    if hours(step) % spacing:
        raise UserError(
            f"data.time_step of {step}h cannot be had from {store.url}, whose stamps lie {own:g}h apart; choose a "
            f"multiple of {own:g}h"
        )
    start = stamps_in(experiment.data.training, step)[0]
    if (start - first) % spacing:
        near = first + (start - first) // spacing * spacing
        raise UserError(
            f"the training period starts at {text(start)}, but the stamps of {store.url} lie {own:g}h apart from "
            f"{text(first)}; start at {text(near)} or {text(near + spacing)}"
        )
