"""What all sections of an experiment are made of: the base model, periods, the spelling of times and durations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Self, overload

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

YEARS = (1700, 2200)
"""First and last year of a time: arrays of times in nanoseconds reach from 1678 to 2262."""
LONGEST_HOURS = 24 * 3660
"""Hours of a duration."""
MOST_STAMPS = 1_000_000
"""Stamps of a period: more than a century of hours."""
MOST_TIMES = 100_000
"""Initial times of a set of forecasts."""
MOST_LEADS = 20_000_000
"""Fields of one variable and level in a set of forecasts: its initial times by its lead times."""
MOST_SEEDS = 2**32 - 1
"""The greatest seed: generators of 32 bits would take a greater one for another."""
MOST_DAYS = 36_600
"""Days of a window, or between two things."""
MOST_COUNT = 1_000_000_000
"""Of what is only counted, such as updates."""
MOST_NAMES = 1000
"""Entries of a list that people write."""


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
    if not YEARS[0] <= parsed.year <= YEARS[1]:
        raise ValueError(f"{value!r} is outside of the years {YEARS[0]} to {YEARS[1]}")
    if parsed.minute or parsed.second or parsed.microsecond:
        raise ValueError(f"{value!r} is not a full hour")
    return parsed


def _parse_hours(value: Any) -> Any:
    if isinstance(value, str):
        number, unit = value[:-1].strip(), value[-1:]
        if unit not in ("h", "d") or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise ValueError(f"{value!r} is not a duration; write it like 6h or 10d, {LONGEST_HOURS // 24}d at most")
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
    Field(gt=0, le=LONGEST_HOURS),
]
EPOCH = datetime(1970, 1, 1)


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

    def count(self, hours: int) -> int:
        """How many stamps lie in it: its start, and every so many hours from there."""
        return (self.end - self.start) // timedelta(hours=hours) + 1


class TimeRange(Sequence[datetime]):
    """Times at even distances, each made when it is asked for: a million of them take no more than two.

    Parameters
    ----------
    hours
        The times as hours since 1970.
    """

    def __init__(self, hours: range) -> None:
        self._hours = hours

    @classmethod
    def between(cls, first: datetime, last: datetime, every: int) -> TimeRange:
        """From the first on, every so many hours, none after the last."""
        hours = timedelta(hours=1)
        return cls(range((first - EPOCH) // hours, (last - EPOCH) // hours + 1, every))

    @overload
    def __getitem__(self, index: int) -> datetime: ...
    @overload
    def __getitem__(self, index: slice) -> TimeRange: ...
    def __getitem__(self, index: int | slice) -> datetime | TimeRange:
        found = self._hours[index]
        return TimeRange(found) if isinstance(found, range) else EPOCH + timedelta(hours=found)

    def __len__(self) -> int:
        return len(self._hours)

    def __iter__(self) -> Iterator[datetime]:
        return (EPOCH + timedelta(hours=hours) for hours in self._hours)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimeRange) and self._hours == other._hours

    def __hash__(self) -> int:
        return hash(self._hours)
