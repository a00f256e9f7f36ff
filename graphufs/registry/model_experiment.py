"""The experiment of a registered model, fitted to those that nights and rounds are planned with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from graphufs.config import credentials, loading
from graphufs.config.base import format_time
from graphufs.config.experiment import Experiment
from graphufs.registry.registry import RegisteredModel


def experiment_of(model: RegisteredModel, present: Experiment, initial_times: Sequence[datetime] = ()) -> Experiment:
    """A model's experiment with the present one's nights, lead time and products and, where given, these initial times.

    What a model was registered with are forecasts of its validation period, which may be shorter than a night's.
    How things are reached, which the registry does not keep, is the present one's where it reads the same source.
    """
    now = credentials.content(present)
    own = loading.parse(model.experiment, origin=f"the experiment of {model.id}").model_dump(mode="json")
    content = credentials.with_ways_of(own, now)
    content["nightly"] = now["nightly"]
    if content["evaluation"]["truth"] == "both":
        content["evaluation"]["truth"] = "replay"  # a night's scores are of one truth, and ERA5 comes days later
    content["forecast"] |= {name: now["forecast"][name] for name in ("every", "lead_time", "products", "products_grid")}
    times = [format_time(time) for time in initial_times]
    content["forecast"] |= {"period": None, "initial_times": times or None}
    return loading.validate(
        Experiment, content, f"the experiment of {model.id} does not suit this night", "graphufs schema"
    )
