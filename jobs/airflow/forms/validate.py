"""From what a form, an asset's event or a setting says to an experiment that is right, or one clear error.

All who may fill in a form may change what is learnt, but not where the site's account reads and connects to: an address
of a dask scheduler, a store or a folder could make it run or read what is not theirs. Those stand in the experiment's
file, which only an operator can change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any

import yaml

import jobs.site
from graphufs import masking, reading
from graphufs.config import loading, moved_keys
from graphufs.config.base import format_time
from graphufs.config.credentials import require_named
from graphufs.config.experiment import Experiment
from graphufs.config.request import Request
from graphufs.errors import UserError
from jobs.airflow.forms import choices

PLACES = (
    "data.source.url",
    "data.source.storage",
    "data.source.storage_options",
    "evaluation.era5.url",
    "evaluation.era5.climatology",
    "evaluation.era5.storage",
    "evaluation.era5.storage_options",
    "evaluation.dask",
    "normalization.url",
    "normalization.storage",
    "normalization.storage_options",
    "normalization.dask",
    "training.init_from",
)
"""Keys that name places and how to get there."""
MOST = 100
"""Overrides in one form."""
LONGEST = 1000
"""Characters of an override."""


def merged(fields: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """A form's fields (by key of the experiment, those that are None left out) and its overrides, as overrides.

    Raises
    ------
    UserError
        If a key is given in both, or an override is not written as one.
    """
    _check(overrides)
    given = {key: value for key, value in fields.items() if value is not None}
    keys = [override.partition("=")[0].strip() for override in overrides]
    if twice := sorted(set(keys) & set(given)):
        raise UserError(f"{', '.join(twice)} is given both in its field and among the overrides; take one of them out")
    return [*(f"{key}={json.dumps(value)}" for key, value in given.items()), *overrides]


def asked(
    name: str, place: str, fields: Mapping[str, Any], wish: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """What a run does, for its tasks: experiment and request, the site, and what the form said.

    The experiment is a shipped one with the form's fields (see `merged`) and overrides, as YAML; the request has those
    fields of the `wish` that are not None.

    Raises
    ------
    UserError
        As `experiment` and `site`, or if what is asked for is not allowed.
    """
    merged({moved_keys.FORMER[one]: value for one, value in wish.items()}, overrides)
    found, former = _loaded(name, merged(fields, overrides))
    for hint in moved_keys.hints(former):
        print(hint)
    return {
        "experiment": loading.dump(found),
        "request": (former | loading.request(wish)).given,
        "site": site(place),
        "form": name,
        "name": found.name,
        "overrides": list(overrides),
    }


def experiment(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """A shipped experiment with overrides.

    Raises
    ------
    UserError
        If there is no such experiment, a key or value is wrong, or a place would change.
    """
    return _loaded(name, overrides)[0]


def _loaded(name: str, overrides: Sequence[str]) -> tuple[Experiment, Request]:
    if name not in loading.shipped():
        raise UserError(f"there is no experiment {name!r}; there are {', '.join(loading.shipped())}")
    _check(overrides)
    path = loading.EXPERIMENTS / f"{name}.yaml"
    found, former = loading.load_run(path, overrides)
    before = loading.load(path)
    for place in PLACES:
        if attrgetter(place)(before) != attrgetter(place)(found):
            raise UserError(
                f"{place} cannot be changed here, because it names a place that the site's account would go to; "
                f"change it in the experiment's file {path.name}"
            )
    require_named(found)
    return found, former


def on_validation(experiment: Experiment) -> tuple[Experiment, str]:
    """The experiment with forecasts of its validation period, and what was changed for that, in words.

    A training must not be chosen by the evaluation period, so its forecasts are those of the validation period.

    Raises
    ------
    UserError
        If that period is too short for a forecast of a single step.
    """
    period, step = experiment.data.validation, experiment.data.time_step
    wanted = experiment.forecast.lead_time
    room = (period.end - period.start) // timedelta(hours=1) - (experiment.data.input_frames - 1) * step
    lead = min(wanted, room // step * step)
    if lead < step:
        raise UserError(
            f"data.validation: the period {period} is too short for {experiment.data.input_frames} input frames and "
            f"a forecast of one step of {step}h"
        )
    section = experiment.forecast.model_copy(update={"period": period, "initial_times": None, "lead_time": lead})
    changed = loading.parse(loading.dump(experiment.model_copy(update={"forecast": section})))
    note = f"forecasts of the validation period {period}"
    if lead < wanted:
        note += f", shortened from {wanted}h to {lead}h, which is the longest that the period holds"
    return changed, f"{note}: {len(changed.initial_times)} from {format_time(changed.initial_times[0])} on"


def site(name: str) -> str:
    """A site's name, if tasks can use it.

    Raises
    ------
    UserError
        If not.
    """
    if name not in choices.sites():
        raise UserError(f"there is no site {name!r} for tasks; there are {', '.join(choices.sites())}")
    return name


def resources(site: str, step: str, wanted: Mapping[str, Any]) -> list[str]:
    """Resources of a form, those that are None left out, as overrides for a step's job.

    Raises
    ------
    UserError
        If one of them is wrong.
    """
    given = [f"{name}={value}" for name, value in wanted.items() if value is not None]
    jobs.site.load(site).resources_of(step, given)
    return given


def _check(overrides: Sequence[str]) -> None:
    """What the form's schema says of overrides, for those that come in other ways too."""
    if len(overrides) > MOST:
        raise UserError(f"there are {len(overrides)} overrides; {MOST} are allowed")
    for override in overrides:
        if not isinstance(override, str) or len(override) > LONGEST or not re.fullmatch(choices.OVERRIDE, override):
            raise UserError(
                f"override {reading.shown(masking.override(str(override)))}: write it as section.key=value, one a "
                f"line, {LONGEST} characters at most"
            )
        if _has_alias(override.partition("=")[2]):  # a few of them, each of several others, would fill the memory
            raise UserError(f"override {masking.override(override)}: references (*name) of YAML are not allowed here")


def _has_alias(text: str) -> bool:
    try:
        return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
    except yaml.YAMLError:  # configuration says what is wrong
        return False
