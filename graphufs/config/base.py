"""What all sections of an experiment are made of: the base model, periods, the spelling of times and durations."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator


def _parse_time(value: Any) -> Any:
    if isinstance(value, datetime):
        parsed = value
    elif isinstance(value, date):
        parsed = datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a time; write it like 1994-01-01T06") from None
    else:
        raise ValueError(f"{value!r} is not a time; write it like 1994-01-01T06")
    if parsed.tzinfo is not None:
        raise ValueError(f"{value!r} names a time zone; times are UTC, written without one")
    if parsed.minute or parsed.second or parsed.microsecond:
        raise ValueError(f"{value!r} is not a full hour")
    return parsed


def _parse_hours(value: Any) -> Any:
    if isinstance(value, str):
        number, unit = value[:-1].strip(), value[-1:]
        if unit not in ("h", "d") or not number.isdigit():
            raise ValueError(f"{value!r} is not a duration; write it like 6h or 10d")
        return int(number) * (24 if unit == "d" else 1)
    return value


def format_time(time: datetime) -> str:
    """The spelling of a time used in files and folder names: 1994-01-01T06."""
    return time.strftime("%Y-%m-%dT%H")


Time = Annotated[
    datetime,
    BeforeValidator(_parse_time, json_schema_input_type=str),
    PlainSerializer(format_time, return_type=str),
]
Hours = Annotated[
    int,
    BeforeValidator(_parse_hours, json_schema_input_type=str | int),
    PlainSerializer(lambda hours: f"{hours}h", return_type=str),
    Field(gt=0),
]


class Section(BaseModel):
    """A part of an experiment: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    ALWAYS_HASHED: ClassVar[str] = ""
    """Keys that are hashed at their default too, as version 0.1.0 did; keys added later are not. See `identity`."""


class Period(Section):
    """A stretch of time, both ends included."""

    start: Time
    end: Time

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"the end {format_time(self.end)} must come after the start {format_time(self.start)}")
        return self

    def overlaps(self, other: Period) -> bool:
        """Whether the two share at least one instant."""
        return self.start <= other.end and other.start <= self.end

    def __str__(self) -> str:
        return f"{format_time(self.start)}..{format_time(self.end)}"
