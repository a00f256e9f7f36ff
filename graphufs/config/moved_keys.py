"""Keys of experiments that said what one run is asked for, as version 0.1 had them; now they are fields of a request.

Experiments on disk, in the registry and in Airflow's database hold them, so they are still read: taken out of a
document while it is loaded, and handed over as the request where it is loaded for a run. After release 0.2 nothing
needs to be handed over; documents of 0.1 last, so the keys must still be taken out of them. Jobs and reports are known
by a hash of an experiment's whole content, of which the keys were a part: `put_back` stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphufs.config.identity import whole_content
from graphufs.config.request import Request

if TYPE_CHECKING:
    from graphufs.config.experiment import Experiment

FORMER = {
    **{name: f"nightly.{name}" for name in ("night", "model")},
    **{f: f"retraining.{f}" for f in ("champion", "answer", "decided_by", "why", "rollback_to", "cost")},
}
"""The key that each field of a request was. A field that is added was none, and is not added here."""
OPTIONS = {"rollback_to": "--to", "decided_by": "--decided-by"}
"""Options of `graphufs` with another name than `--field`."""


def take_out(content: dict[str, Any]) -> dict[str, Any]:
    """Take the former keys out of an experiment's content; their values, by the field of the request."""
    found = {}
    for name, former in FORMER.items():
        section, _, key = former.partition(".")
        place = content.get(section)
        if isinstance(place, dict) and key in place:
            found[name] = place.pop(key)
    return found


def put_back(experiment: Experiment, request: Request) -> dict[str, Any]:
    """An experiment's content as JSON with the former keys in it, each where it stood, and no later ones at defaults.

    So a job keeps its name where nothing is asked for, and where the same was asked for by the former keys.
    """
    asked, restored = request.model_dump(mode="json"), whole_content(experiment)
    for name, former in FORMER.items():
        section, _, key = former.partition(".")
        last = {**restored[section], key: asked[name]}
        restored[section] = {key: asked[name], **last} if name == "model" else last  # it was the first of its section
    added = {name: value for name, value in request.given.items() if name not in FORMER}
    return {**restored, "request": added} if added else restored


def hints(request: Request) -> list[str]:
    """For each field that came by its former key, how it is said now."""
    found = []
    for name in request.given:
        option = "" if name == "cost" else f"{OPTIONS.get(name, f'--{name}')} to graphufs, "
        found.append(
            f"{FORMER[name]} is not a key of experiments any more, and will ask for nothing after this release: say "
            f"{option}--request {name}=... to graphufs-jobs"
        )
    return found
