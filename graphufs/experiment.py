"""Experiment: the one configuration of everything, from data to report.

Loaded from YAML (`graphufs.configuration.load`), validated here before anything runs. This module imports neither
JAX nor xarray nor numpy, so that the control plane can read experiments.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

EMBEDDED = "embedded"
"""The source URL that stands for the idealised world this package makes itself."""

DERIVED_FORCINGS = (
    "day_progress_cos",
    "day_progress_sin",
    "toa_incident_solar_radiation",
    "year_progress_cos",
    "year_progress_sin",
)
"""Variables computed from time and place, found in no store (graphufs.forcings)."""


def _parse_time(value: Any) -> Any:
    if isinstance(value, datetime):
        parsed = value
    elif isinstance(value, date):
        parsed = datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no time; write it like 1994-01-01T06") from None
    else:
        raise ValueError(f"{value!r} is no time; write it like 1994-01-01T06")
    if parsed.tzinfo is not None:
        raise ValueError(f"{value!r} names a time zone; times are UTC, written without one")
    if parsed.minute or parsed.second or parsed.microsecond:
        raise ValueError(f"{value!r} is not a full hour")
    return parsed


def _parse_hours(value: Any) -> Any:
    if isinstance(value, str):
        number, unit = value[:-1].strip(), value[-1:]
        if unit not in ("h", "d") or not number.isdigit():
            raise ValueError(f"{value!r} is no duration; write it like 6h or 10d")
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


class World(Section):
    """The embedded idealised world (used where the source is `embedded`)."""

    seed: int = Field(0, ge=0)
    """Each seed is another world: another weather from the same climate."""


class Source(Section):
    """Where Replay data come from."""

    url: str = EMBEDDED
    """`embedded`, or the address of a Replay zarr store: gs://, s3://, https:// or a path."""
    storage_options: dict[str, Any] = {}
    """Options for fsspec, such as {token: anon} for the public bucket."""
    component: Literal["fv3", "mom6"] = "fv3"
    """The model component the store holds: atmosphere (fv3) or ocean (mom6)."""
    world: World = World()


class Data(Section):
    """Which variables, levels and times."""

    source: Source = Source()
    inputs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Variables the network sees at the input frames (static ones once), Replay names."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Variables the network predicts, Replay names."""
    forcings: tuple[str, ...] = ()
    """Variables known in advance, seen at the target time: from the store, or derived from time and place."""
    levels: tuple[float, ...] = ()
    """Wanted levels in hPa (depth in m for the ocean) of the three-dimensional variables."""
    level_match: Literal["nearest", "exact"] = "nearest"
    """`nearest` takes the closest native level within a tenth of its value; `exact` takes no other."""
    time_step: Hours = 6
    input_frames: int = Field(2, ge=1)
    """How many past frames the network sees, the initial time included."""
    tisr_period: Hours = 1
    """The hours ending at the stamp over which toa_incident_solar_radiation is integrated."""
    training: Period
    validation: Period
    evaluation: Period
    allow_overlap: tuple[Literal["training", "validation", "normalization"], ...] = ()
    """Periods that may overlap the evaluation period. Scores are then not independent."""

    @model_validator(mode="after")
    def _variables_make_sense(self) -> Self:
        for name in ("inputs", "targets", "forcings", "levels"):
            values = getattr(self, name)
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"data.{name} names {', '.join(twice)} more than once")
        both = sorted(set(self.targets) & set(self.forcings))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both a target and a forcing")
        derived = sorted(set(self.targets) & set(DERIVED_FORCINGS))
        if derived:
            raise ValueError(f"{', '.join(derived)} is computed from time and place and cannot be a target")
        return self

    @property
    def stored_variables(self) -> tuple[str, ...]:
        """The variables to read from the store, sorted."""
        names = set(self.inputs) | set(self.targets) | set(self.forcings)
        return tuple(sorted(names - set(DERIVED_FORCINGS)))


class Normalization(Section):
    """How the statistics that scale inputs and targets are made."""

    period: Period | None = None
    """Where not given, the training period."""
    weights: Literal["none", "area", "volume"] = "none"
    """`none` counts grid points (as published), `area` weights by cell area, `volume` by area times layer thickness."""
    url: str | None = None
    """A folder with published mean_by_level, stddev_by_level and diffs_stddev_by_level stores, read instead."""
    storage_options: dict[str, Any] = {}
    dask: str | None = None
    """Address of a dask scheduler whose workers see the same files, such as tcp://host:8786; else threads are used."""


class Model(Section):
    """The encode-process-decode network."""

    mesh_size: int = Field(2, ge=0, le=7)
    """Refinements of the icosahedron."""
    latent_size: int = Field(256, ge=1)
    message_steps: int = Field(4, ge=1)
    hidden_layers: int = Field(1, ge=1)
    radius_fraction: float = Field(0.6, gt=0)
    """Radius of the grid2mesh query as a fraction of the finest mesh's longest edge."""
    mesh2grid_normalization: float | None = Field(0.6180338738074472, gt=0)
    """Length that scales the mesh2grid edge features; null takes the longest such edge."""


class LearningRate(Section):
    """The learning rate over the updates of a stage."""

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """`linear` runs from start to peak over the whole stage; `cosine` warms up, then falls to end."""
    peak: float = Field(1e-3, gt=0)
    start: float = Field(0.0, ge=0)
    end: float = Field(0.0, ge=0)
    warmup_updates: int = Field(0, ge=0)


class Stage(Section):
    """A part of the training with its own length, rollout and learning rate."""

    name: str
    updates: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
    rollout: int = Field(1, ge=1)
    """Autoregressive steps the loss is averaged over."""
    learning_rate: LearningRate = LearningRate()

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.updates is None) == (self.epochs is None):
            raise ValueError(f"stage {self.name!r} needs either updates or epochs")
        if self.updates and self.learning_rate.warmup_updates > self.updates:
            raise ValueError(f"stage {self.name!r} warms up for longer than its {self.updates} updates")
        return self


class Optimizer(Section):
    """AdamW with clipping by the gradient's global norm."""

    b1: float = Field(0.9, ge=0, lt=1)
    b2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    clip: float | None = Field(32.0, gt=0)


class Loss(Section):
    """Weights of the mean squared error of normalised targets."""

    latitude_weights: bool = True
    level_weights: bool = True
    """Proportional to pressure."""
    variable_weights: dict[str, float] = {}
    """Weights by target; the others count 1."""


class Training(Section):
    """How the network is trained."""

    seed: int = Field(0, ge=0)
    batch_size: int = Field(16, ge=1)
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    optimizer: Optimizer = Optimizer()
    loss: Loss = Loss()
    validate_every: int = Field(500, ge=1)
    """Updates between two passes over the validation period."""
    checkpoint_every: int = Field(500, ge=1)
    """Updates between two checkpoints."""

    @model_validator(mode="after")
    def _stage_names_differ(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need different names, got {names}")
        return self


class Forecast(Section):
    """Which forecasts are made."""

    period: Period | None = None
    """Initial times lie in here, with all their lead times; where not given, the evaluation period."""
    every: Hours = 24
    """Time between two initial times."""
    lead_time: Hours = 240
    batch_size: int = Field(8, ge=1)
    """Initial times computed together."""


class Evaluation(Section):
    """What forecasts are scored against."""

    climatology: Period | None = None
    """The years the climatology baseline is made from; where not given, the training period."""
    climatology_window: int = Field(61, ge=1)
    """Days of the triangular window that smooths the climatology over the year."""

    @model_validator(mode="after")
    def _odd_window(self) -> Self:
        if self.climatology_window % 2 == 0:
            raise ValueError(f"climatology_window must be odd, got {self.climatology_window}")
        return self


class Experiment(Section):
    """One experiment, complete."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)
    description: str = ""
    data: Data
    normalization: Normalization = Normalization()
    model: Model = Model()
    training: Training
    forecast: Forecast = Forecast()
    evaluation: Evaluation = Evaluation()

    @property
    def statistics_period(self) -> Period:
        """The period the normalization statistics are computed over."""
        return self.normalization.period or self.data.training

    @property
    def forecast_period(self) -> Period:
        """The period the forecasts' initial and valid times lie in."""
        return self.forecast.period or self.data.evaluation

    @property
    def climatology_period(self) -> Period:
        """The period the climatology baseline is made from."""
        return self.evaluation.climatology or self.data.training

    @property
    def initial_times(self) -> tuple[datetime, ...]:
        """The initial times of the forecasts: the first has its input frames, the last its last lead, in the period."""
        period, step = self.forecast_period, timedelta(hours=self.data.time_step)
        first = period.start + (self.data.input_frames - 1) * step
        last = period.end - timedelta(hours=self.forecast.lead_time)
        count = (last - first) // timedelta(hours=self.forecast.every) + 1
        return tuple(first + i * timedelta(hours=self.forecast.every) for i in range(max(count, 0)))

    @property
    def periods(self) -> dict[str, Period]:
        """The periods whose data the experiment needs, by the name of their use."""
        periods = {
            "training": self.data.training,
            "validation": self.data.validation,
            "evaluation": self.data.evaluation,
            "forecast": self.forecast_period,
            "climatology": self.climatology_period,
        }
        if self.normalization.url is None:
            periods["normalization"] = self.statistics_period
        return periods

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        step = self.data.time_step
        self._check_overlaps()
        for name, hours in (("lead_time", self.forecast.lead_time), ("every", self.forecast.every)):
            if hours % step:
                raise ValueError(f"forecast.{name} of {hours}h is no multiple of data.time_step, {step}h")
        origin = self.data.training.start
        for name, period in self.periods.items():
            if (period.start - origin) % timedelta(hours=step):
                raise ValueError(
                    f"the {name} period starts at {format_time(period.start)}, which is not a whole number of "
                    f"{step}h steps from the training period's start {format_time(origin)}"
                )
        self._check_samples()
        unknown = sorted(set(self.training.loss.variable_weights) - set(self.data.targets))
        if unknown:
            raise ValueError(f"training.loss.variable_weights names {', '.join(unknown)}, no target of the experiment")
        return self

    def _check_overlaps(self) -> None:
        evaluation = self.data.evaluation
        for name in ("training", "validation", "normalization"):
            period = self.periods.get(name)
            if period and period.overlaps(evaluation) and name not in self.data.allow_overlap:
                if name == "normalization" and self.normalization.period is None:
                    continue  # the training period, named above
                raise ValueError(
                    f"the {name} period {period} overlaps the evaluation period {evaluation}; move one, or accept "
                    f"scores that are not independent by adding {name} to data.allow_overlap"
                )

    def _check_samples(self) -> None:
        step, frames = timedelta(hours=self.data.time_step), self.data.input_frames
        longest = max(stage.rollout for stage in self.training.stages)
        for name, period, rollout, wanted in (
            ("training", self.data.training, longest, self.training.batch_size),
            ("validation", self.data.validation, 1, 1),
        ):
            samples = (period.end - period.start) // step + 1 - (frames - 1) - rollout
            if samples < wanted:
                raise ValueError(
                    f"the {name} period {period} holds {max(samples, 0)} samples of {frames} input frames and "
                    f"{rollout} target steps of {self.data.time_step}h, but at least {wanted} are needed"
                )
        if not self.initial_times:
            raise ValueError(
                f"the forecast period {self.forecast_period} is too short for a single forecast of "
                f"{self.forecast.lead_time}h after {frames} input frames"
            )
