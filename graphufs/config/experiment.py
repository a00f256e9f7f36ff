"""Experiment: the one configuration of everything, from data to report.

Loaded from YAML (`graphufs.config.loading.load`), validated here before anything runs. This module imports neither
JAX nor xarray nor numpy, so that the control plane can read experiments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from graphufs.config.base import (
    MOST_DAYS,
    MOST_LEADS,
    MOST_STAMPS,
    MOST_TIMES,
    Period,
    Section,
    TimeRange,
    format_time,
)
from graphufs.config.data import Data
from graphufs.config.evaluation import Evaluation
from graphufs.config.forecast import Forecast
from graphufs.config.identity import PLANS, WORDS, NotIdentity
from graphufs.config.model import Model
from graphufs.config.nightly import Nightly
from graphufs.config.normalization import Normalization
from graphufs.config.retraining import Retraining
from graphufs.config.training import Training
from graphufs.vocabulary import mirror
from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES
from graphufs.vocabulary.loss_diagnostics import LOSS_DIAGNOSTICS
from graphufs.vocabulary.variables import naming, replay_name, weatherbench_name


class Experiment(Section):
    """One experiment, complete."""

    name: Annotated[str, NotIdentity(WORDS)] = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)
    description: Annotated[str, NotIdentity(WORDS)] = ""
    data: Data
    normalization: Normalization = Normalization()
    model: Model = Model()
    training: Training
    forecast: Forecast = Forecast()
    evaluation: Evaluation = Evaluation()
    nightly: Annotated[Nightly, NotIdentity(PLANS)] = Nightly()
    retraining: Annotated[Retraining, NotIdentity(PLANS)] = Retraining()

    @property
    def statistics_period(self) -> Period:
        """The period the normalization statistics are computed over."""
        return self.normalization.period or self.data.training

    @property
    def forecast_period(self) -> Period:
        """The period the forecasts' input frames, initial and valid times lie in."""
        if self.forecast.initial_times is not None:
            windows = self.windows(self.forecast.initial_times)
            return Period(start=windows[0].start, end=windows[-1].end)
        return self.forecast.period or self.data.evaluation

    @property
    def climatology_period(self) -> Period:
        """The period the climatology baseline is made from."""
        return self.evaluation.climatology or self.data.training

    @property
    def initial_times(self) -> Sequence[datetime]:
        """The initial times of the forecasts: the first has its input frames, the last its last lead, in the period."""
        return self.forecast.initial_times or self.initial_times_in(self.forecast_period)

    @property
    def validation_members(self) -> int:
        """The members of validation forecasts: as many as of forecasts, but at least 2 of an ensemble, and at most 8.

        The fair score does not depend on their number.
        """
        return min(max(self.forecast.members, 2), 8) if self.model.noise else 1

    def initial_times_in(self, period: Period) -> TimeRange:
        """The initial times, every `forecast.every`, whose whole windows lie in a period."""
        first = period.start + timedelta(hours=(self.data.input_frames - 1) * self.data.time_step)
        last = period.end - timedelta(hours=self.forecast.lead_time)
        return TimeRange.between(first, last, self.forecast.every)

    def windows(self, initial_times: Iterable[datetime]) -> tuple[Period, ...]:
        """For each initial time what its forecast and score need: from the first input frame to the last lead."""
        before = timedelta(hours=(self.data.input_frames - 1) * self.data.time_step)
        after = timedelta(hours=self.forecast.lead_time)
        return tuple(Period(start=time - before, end=time + after) for time in initial_times)

    @property
    def forecast_windows(self) -> tuple[Period, ...]:
        """The stretches of time the forecasts need: their period, or the windows of given initial times."""
        given = self.forecast.initial_times
        return (self.forecast_period,) if given is None else self.windows(given)

    @property
    def baseline_period(self) -> Period:
        """The period that the baselines learn from, but for the climatology."""
        return self.data.training if self.training.stages else self.climatology_period

    @property
    def seen_periods(self) -> dict[str, Period]:
        """The periods that the model was trained and chosen on, here or, without stages, elsewhere."""
        return {"training": self.data.training, "validation": self.data.validation}

    @property
    def periods(self) -> dict[str, Period]:
        """The periods whose data the experiment needs, by the name of their use."""
        periods = {
            "evaluation": self.data.evaluation,
            "forecast": self.forecast_period,
            "climatology": self.climatology_period,
        }
        if not self.training.stages:
            return periods
        if self.normalization.url is None:
            periods["normalization"] = self.statistics_period
        return self.seen_periods | periods

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        step = self.data.time_step
        self._check_overlaps()
        for name, hours in (("lead_time", self.forecast.lead_time), ("every", self.forecast.every)):
            if hours % step:
                raise ValueError(f"forecast.{name} of {hours}h is not a multiple of data.time_step, {step}h")
        origin = self.data.training.start
        for time in self.forecast.initial_times or ():
            if (time - origin) % timedelta(hours=step):
                raise ValueError(
                    f"forecast.initial_times has {format_time(time)}, which is not a whole number of {step}h steps "
                    f"from the training period's start {format_time(origin)}"
                )
        for name, period in self.periods.items():
            if (period.start - origin) % timedelta(hours=step):
                raise ValueError(
                    f"the {name} period starts at {format_time(period.start)}, which is not a whole number of "
                    f"{step}h steps from the training period's start {format_time(origin)}"
                )
        if not self.training.stages and self.evaluation.climatology is None:
            raise ValueError(
                "training.stages has none, so that no data of the training period are needed; give the period that the "
                "climatology is to be made of as evaluation.climatology"
            )
        self._check_counts()
        self._check_samples()
        self._check_loss()
        self._check_augmentation()
        self._check_ensemble()
        self._check_validation_forecasts()
        self._check_derived()
        self._check_retraining()
        if self.nightly.until is not None and self.nightly.until <= self.data.evaluation.start:
            raise ValueError(
                f"nightly.until, {format_time(self.nightly.until)}, must come after the evaluation period's start "
                f"{format_time(self.data.evaluation.start)}"
            )
        return self

    def _check_counts(self) -> None:
        step, nights = self.data.time_step, self.nightly.until
        for name, period in self.periods.items():
            if (count := period.count(step)) > MOST_STAMPS:
                raise ValueError(
                    f"the {name} period {period} has {count:,} stamps every {step}h; {MOST_STAMPS:,} are allowed. "
                    "Shorten it"
                )
        sets: dict[str, Sequence[datetime]] = {f"forecast period {self.forecast_period}": self.initial_times}
        if nights is not None and nights > self.data.evaluation.start:
            stretch = Period(start=self.data.evaluation.start, end=nights)
            sets[f"stretch of nightly forecasts {stretch}"] = self.initial_times_in(stretch)
        for name, times in sets.items():
            fields = len(times) * (self.forecast.lead_time // step)
            if len(times) > MOST_TIMES or fields > MOST_LEADS:
                raise ValueError(
                    f"the {name} has {len(times):,} initial times every {self.forecast.every}h and {fields:,} forecast "
                    f"fields of each variable; {MOST_TIMES:,} and {MOST_LEADS:,} are allowed. Shorten it, or make "
                    "forecast.every longer"
                )

    def _check_loss(self) -> None:
        loss, targets = self.training.loss, set(self.data.targets)
        if len(set(loss.diagnostics)) < len(loss.diagnostics):
            raise ValueError(f"training.loss.diagnostics names one twice: {', '.join(loss.diagnostics)}")
        there = {weatherbench_name(name) for name in targets}
        own = str if naming({*targets, *self.data.inputs}) == "WeatherBench2" else replay_name
        for asked in loss.diagnostics:
            if lacking := [own(one) for one in LOSS_DIAGNOSTICS[asked] if one not in there]:
                raise ValueError(
                    f"training.loss.diagnostics names {asked}, which is made of "
                    f"{', '.join(map(own, LOSS_DIAGNOSTICS[asked]))}; {', '.join(lacking)} is not a target of the "
                    "experiment"
                )
        allowed = {"variable_weights": targets | set(loss.diagnostics), "channel_weights": targets}
        if not any(loss.variable_weights.get(name, 1.0) for name in (*self.data.targets, *loss.diagnostics)):
            raise ValueError("training.loss.variable_weights are 0 for all targets, so nothing could be learnt")
        for key, names in (("variable_weights", loss.variable_weights), ("channel_weights", loss.channel_weights)):
            if unknown := sorted(set(names) - allowed[key]):
                raise ValueError(f"training.loss.{key} names {', '.join(unknown)}, no target of the experiment")
        for name, weights in loss.channel_weights.items():
            if strange := sorted(set(weights) - set(self.data.levels)):
                raise ValueError(
                    f"training.loss.channel_weights.{name} names level {', '.join(f'{level:g}' for level in strange)}; "
                    f"data.levels has {', '.join(f'{level:g}' for level in self.data.levels)}"
                )

    def _check_augmentation(self) -> None:
        names = {*self.data.inputs, *self.data.targets, *self.data.forcings}
        if self.training.augmentation.mirror and (unknown := mirror.unknown(names)):
            raise ValueError(
                f"training.augmentation.mirror is true, but whether {', '.join(unknown)} changes sign in a globe "
                "mirrored at the equator is not known; leave mirror out, or the variable"
            )

    def _check_ensemble(self) -> None:
        by_score = [stage.name for stage in self.training.stages if stage.loss.kind == "crps"]
        if by_score and not self.model.noise:
            raise ValueError(
                f"stage {by_score[0]!r} has the loss crps, of members that noise makes, but the model has none; set "
                "model.noise, to 32 say"
            )
        if self.model.noise and not by_score and self.training.stages:
            raise ValueError(
                f"model.noise is {self.model.noise}, but no stage learns what to do with it; give one the loss "
                "{kind: crps}, or leave model.noise out"
            )
        if self.retraining.metric == "crps" and self.forecast.members == 1:
            raise ValueError(
                "retraining.metric is crps, a score of members, but forecast.members is 1; set it to 2 or more, or the "
                "metric to rmse"
            )
        if not self.forecast.keep_members and self.forecast.members == 1:
            raise ValueError(
                "forecast.keep_members is false, but there is one member, which is the forecast: raise "
                "forecast.members, or leave forecast.keep_members out"
            )
        if not self.forecast.keep_members and self.evaluation.plume_points:
            raise ValueError(
                "evaluation.plume_points are drawn of members, which forecast.keep_members: false does not store; "
                "leave one of the two out"
            )
        models = 1 + len(self.forecast.checkpoints)
        if self.forecast.members > models and not self.model.noise:
            of_each = "" if models == 1 else f" of each of {models} checkpoints"
            raise ValueError(
                f"forecast.members is {self.forecast.members}, but without noise all members{of_each} are the same; "
                "set model.noise and train by crps, or leave forecast.members out"
            )
        if self.forecast.members < models:
            raise ValueError(
                f"forecast.members is {self.forecast.members}, fewer than the {models} models that the run and "
                "forecast.checkpoints make; raise it, or name fewer checkpoints"
            )

    def _check_derived(self) -> None:
        there = {weatherbench_name(name) for name in self.data.targets}
        for name in self.evaluation.derived:
            recipe = DERIVED_VARIABLES[name]
            if lacking := [replay_name(needed) for needed in recipe.inputs if needed not in there]:
                raise ValueError(
                    f"evaluation.derived has {name}, which is made of {', '.join(map(replay_name, recipe.inputs))}; "
                    f"{', '.join(lacking)} is not a target of the experiment"
                )
            if recipe.pressure:
                raise ValueError(
                    f"evaluation.derived has {name}, which needs pressure levels; the forecasts lie on Replay's native "
                    "layers"
                )
            if recipe.source_hours and recipe.source_hours != self.data.time_step:
                raise ValueError(
                    f"evaluation.derived has {name}, but with data.time_step of {self.data.time_step}h there is a mean "
                    f"of {recipe.source_hours}h every {self.data.time_step}h only: its sum is not the precipitation of "
                    f"{recipe.hours}h. Take a time step of {recipe.source_hours}h, or leave {name} out"
                )

    def _check_retraining(self) -> None:
        span = (self.retraining.comparison_times - 1) * self.forecast.every
        if span > 24 * MOST_DAYS:
            raise ValueError(
                f"retraining.comparison_times of {self.retraining.comparison_times} every {self.forecast.every}h "
                f"(forecast.every) take {span // 24:,} days; {MOST_DAYS:,} are allowed"
            )
        for one in self.retraining.scores:
            if one.variable not in self.data.targets:
                raise ValueError(f"retraining.scores names {one.variable}, no target of the experiment")
            if one.level is not None and one.level not in self.data.levels:
                raise ValueError(f"retraining.scores names level {one.level:g}, which is not in data.levels")
            if one.lead > self.forecast.lead_time or one.lead % self.data.time_step:
                raise ValueError(
                    f"retraining.scores names a lead of {one.lead}h; leads are multiples of "
                    f"{self.data.time_step}h up to forecast.lead_time, {self.forecast.lead_time}h"
                )

    def _check_validation_forecasts(self) -> None:
        wanted = self.training.validation_forecasts
        if wanted is None:
            if self.forecast.checkpoint == "best":
                raise ValueError("forecast.checkpoint is best, but without training.validation_forecasts none is known")
            return
        if wanted.lead_time % self.data.time_step:
            raise ValueError(
                f"training.validation_forecasts.lead_time of {wanted.lead_time}h is not a multiple of data.time_step, "
                f"{self.data.time_step}h"
            )
        hours = (self.data.input_frames - 1) * self.data.time_step + wanted.lead_time
        if self.data.validation.start + timedelta(hours=hours) > self.data.validation.end:
            raise ValueError(
                f"the validation period {self.data.validation} is shorter than the {hours}h of one of the "
                "training.validation_forecasts with its input frames"
            )

    def _check_overlaps(self) -> None:
        evaluation, periods = self.data.evaluation, self.seen_periods | self.periods
        for name in ("training", "validation", "normalization"):
            period = periods.get(name)
            if period and period.overlaps(evaluation) and name not in self.data.allow_overlap:
                if name == "normalization" and self.normalization.period is None:
                    continue  # the training period, named above
                raise ValueError(
                    f"the {name} period {period} overlaps the evaluation period {evaluation}; move one, or accept "
                    f"scores that are not independent by adding {name} to data.allow_overlap"
                )

    def _check_samples(self) -> None:
        step, frames = timedelta(hours=self.data.time_step), self.data.input_frames
        longest = max((stage.rollout for stage in self.training.stages), default=0)
        of_training = (
            ("training", self.data.training, longest, self.training.batch_size),
            ("validation", self.data.validation, 1, 1),
        )
        for name, period, rollout, wanted in of_training if longest else ():
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
