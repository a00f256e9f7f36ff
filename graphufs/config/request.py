"""What a person or a DAG asks of one run. It travels beside the experiment, which holds configuration alone.

It is part of no output's name. A step says in `graphufs.steps` which of the fields it reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Literal

from pydantic import Field

from graphufs.config.base import Section


class Request(Section):
    """What is asked of one run of a step; a field at its default asks for nothing."""

    night: date | None = None
    """Which night this is; null: today, UTC."""
    model: str = Field("champion", min_length=1)
    """`champion` (the newest candidate while there is none), `latest`, or the id of a registered model."""
    champion: str | None = None
    """The model that a planned challenger is compared with, as `plan_retraining` chose it."""
    answer: Literal["promote", "hold"] | None = None
    """What a person who was asked said; `decide` needs it where the comparison says ask."""
    decided_by: str | None = Field(None, max_length=200)
    """Who decided: goes into the registry's history. Null: the rule, or the account."""
    why: str = Field("", max_length=1000)
    """Why, for the history."""
    rollback_to: str | None = None
    """The model that `rollback` makes the champion again. Null: the one before the present champion."""
    cost: dict[str, float | None] = {}
    """What the training used (segments, gpu_hours, queue_wait [s], elapsed [s], energy [kWh]), kept with the model."""

    @property
    def given(self) -> dict[str, Any]:
        """The fields that ask for something, as JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def only(self, fields: Iterable[str]) -> Request:
        """The same, of these fields alone."""
        return Request.model_validate({name: value for name, value in self.given.items() if name in fields})

    def __or__(self, other: Request) -> Request:
        """Both together; where both ask for something, what the other one asks for."""
        return Request.model_validate({**self.given, **other.given})


def words(given: Mapping[str, Any]) -> list[str]:
    """Fields as `name=value`, as `graphufs-jobs submit --request` takes them: text as it is, all else as JSON."""
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()]
