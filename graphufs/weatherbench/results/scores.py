"""The scores store: finished scores and the states they came from, in one zarr with labels people can read.

The root group holds for each variable its scores (forecast, metric, region, lead_time, [level]), named and ordered as
WeatherBench2 names its results, with one dimension more for the compared forecasts. The group `statistics` holds the
spatial means by initial time, from which scores over other initial times, other conventions and significance can be
computed without reading a forecast again. The group `diagnostics`, where there, holds maps and spectra
(`graphufs.weatherbench.scoring.diagnostics`); `histograms`, where there, ranks and exceedance of ensembles
(`graphufs.weatherbench.scoring.histograms`).

Scores that grow (`graphufs.weatherbench.results.growing`) have their statistics in parts of so many initial times, each
with a checksum, and in the group `sums` what scores are made of, summed over all initial times.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.storage.atomic import write_text
from graphufs.storage.checksums import Files, crc32
from graphufs.storage.zarr_io import open_zarr, store_damage, write_zarr
from graphufs.vocabulary import cf
from graphufs.vocabulary.conventions import CONVENTIONS, DEFAULT, Convention
from graphufs.vocabulary.labels import truth_name
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.ensemble_metrics import metrics_of
from graphufs.weatherbench.results import contents, parts
from graphufs.weatherbench.results.display import Unit, channel_name, unit
from graphufs.weatherbench.scoring.running_sums import RunningSums
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState, checksum_of_parts, require_same_times

GROUP = parts.GROUP
DIAGNOSTICS = "diagnostics"
HISTOGRAMS = "histograms"
SUMS = "sums"


class Scores:
    """Scores by forecast, metric, channel and lead; and the states behind them: groups of a store."""

    def __init__(
        self,
        dataset: xr.Dataset,
        statistics: xr.Dataset,
        diagnostics: xr.Dataset | None = None,
        histograms: xr.Dataset | None = None,
        states: Mapping[str, ScoreState] | None = None,
        *,
        sums: xr.Dataset | None = None,
        path: Path | None = None,
    ) -> None:
        self.dataset = dataset
        self._statistics = statistics
        self._states = states
        self._of_metric: dict[str | None, Mapping[str, ScoreState]] = {}
        self.diagnostics = diagnostics
        self.histograms = histograms
        self.sums = sums
        self.path = path

    @classmethod
    def from_states(
        cls,
        states: Mapping[str, ScoreState],
        attributes: Mapping[str, Any],
        variable_attributes: Mapping[str, Mapping[str, Any]],
        diagnostics: xr.Dataset | None = None,
        histograms: xr.Dataset | None = None,
        *,
        part: int | None = None,
    ) -> Scores:
        """Finish the scores of states, by name of the forecast, that share their initial times.

        `attributes` are recorded with the scores, those of each variable are its unit and long name. `diagnostics` are
        maps and spectra over the same initial times, `histograms` those of ensembles. Scores that are to grow have
        their statistics in parts of `part` initial times.
        """
        times = require_same_times(states)
        axes = next(iter(states.values())).axes
        common = contents.common_attributes(axes, len(times), attributes)
        finished = {name: state.finalize() for name, state in states.items()}
        scores = contents.scores_dataset(finished, axes, common, variable_attributes)
        kept = {name: state.copy() for name, state in states.items()}
        if part is None:
            sha256: dict[str, Any] = {"sha256": {name: state.checksum() for name, state in states.items()}}
            return cls(scores, contents.statistics_dataset(states, common | sha256), diagnostics, histograms, kept)
        checksums = parts.checksums({name: state.part_checksums(part) for name, state in states.items()}, part)
        statistics = contents.statistics_dataset(states, common | checksums)
        sums = {name: RunningSums(axes).add(state.averages()) for name, state in states.items()}
        return cls(scores, statistics, diagnostics, histograms, kept, sums=contents.sums_dataset(sums))

    @classmethod
    def open(cls, path: Path, *, finished_parts: bool = True) -> Scores:
        """Open the scores at `path`, after comparing their files with their checksums.

        Without `finished_parts`, the sizes alone are compared of what is in parts that are full.

        Raises
        ------
        UserError
            If there are none, or they are damaged.
        """
        if not path.is_dir():
            raise UserError(f"there are no scores at {path}; run `graphufs evaluate` with this experiment first")
        damaged = f"the scores at {path} are damaged; `graphufs evaluate` makes those of an experiment again"
        if (damage := store_damage(path, thorough=finished_parts or parts.growing(path))) is not None:
            raise UserError(f"{damaged} ({damage})")
        try:
            dataset, statistics = open_zarr(path).load(), open_zarr(path, GROUP)
            diagnostics, histograms, sums = (
                open_zarr(path, name) if (path / name).is_dir() else None for name in (DIAGNOSTICS, HISTOGRAMS, SUMS)
            )
        # codecs and parsers raise classes of their own, which share no base below Exception
        except Exception as error:
            raise UserError(f"{damaged} ({type(error).__name__}: {error})") from error
        known = dataset.attrs.get("sha256")  # stores of before have none
        if known is not None and known != contents.checksums(dataset, statistics, sums):
            raise UserError(f"{damaged} (their checksum differs)")
        return cls(dataset, statistics, diagnostics, histograms, sums=sums, path=path)

    def write(self, path: Path) -> None:
        """Write the store, and next to it a table with the ending .csv for people."""
        table = self.csv()
        write_text(path.with_suffix(".csv"), table)
        sha256 = contents.checksums(self.dataset, self._labels(), self.sums)
        whole = self.dataset.assign_attrs(sha256=sha256, csv_crc32=zlib.crc32(table.encode()))
        groups: dict[str | None, xr.Dataset | None] = {
            None: whole, DIAGNOSTICS: self.diagnostics, HISTOGRAMS: self.histograms, SUMS: self.sums
        }  # fmt: skip
        there = {name: group for name, group in groups.items() if group is not None}
        statistics, begin = self._to_write()
        chunks = {"maps": {"statistic": 1, "lead_time": 1}}
        if self.part is not None:
            chunks |= {str(name): {"init_time": self.part} for name in ("init_time", *self._statistics.data_vars)}
        write_zarr(path, there | statistics, chunks, begin=begin)

    def _labels(self) -> xr.Dataset:
        """The statistics, with all initial times, or their axes alone."""
        return self._statistics

    def _to_write(self) -> tuple[dict[str | None, xr.Dataset], Callable[[Path], Files] | None]:
        """The group of statistics to write; or what writes it, for `write_zarr`."""
        return {GROUP: self._statistics}, None

    def table_damage(self, path: Path) -> str | None:
        """What is wrong with the table for people beside the store at `path` that was opened; None if nothing is."""
        table, checksum = path.with_suffix(".csv"), self.dataset.attrs.get("csv_crc32")
        if checksum is None:  # stores of before have none
            return None
        if not table.is_file():
            return f"{table} is missing"
        return None if crc32(table) == checksum else f"{table} has changed since it was written"

    @property
    def forecasts(self) -> tuple[str, ...]:
        """The names of the compared forecasts."""
        return tuple(map(str, self.dataset["forecast"].values))

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What was scored."""
        return tuple(Channel(name, level) for name, level in self.dataset.attrs["channels"])

    @property
    def convention(self) -> Convention:
        """Whose conventions the scores follow."""
        return next(name for name in CONVENTIONS if name == self.dataset.attrs.get("convention", DEFAULT))

    @property
    def truth_name(self) -> str:
        """What the forecasts were scored against: `replay` or `era5`."""
        return str(self.dataset.attrs.get("truth_name", "replay"))

    @property
    def truth_label(self) -> str:
        """The truth for people: an analysis, whose levels are pressure levels, scored against itself is not Replay."""
        own = self.truth_name == "replay" and self.dataset.attrs.get("vertical") == cf.PRESSURE
        return "the analysis itself" if own else truth_name(self.truth_name)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return tuple(map(str, self.dataset["metric"].values))

    def channel_name(self, channel: Channel) -> str:
        """A channel's name for people, which says where levels are native layers."""
        attributes = self.dataset.attrs
        return channel_name(
            channel, attributes.get("vertical", "pressure levels"), attributes.get("level_units", "hPa")
        )

    def unit(self, channel: Channel) -> Unit:
        """The unit to show a channel in."""
        return unit(str(self.dataset[channel.variable].attrs.get("units", "")))

    @property
    def leads(self) -> np.ndarray:
        """The lead times, timedelta64[ns] [lead]."""
        return self.dataset["lead_time"].values

    @property
    def lead_hours(self) -> np.ndarray:
        """The lead times in hours, float64 [lead]."""
        return self.leads / np.timedelta64(1, "h")

    @property
    def initial_times(self) -> np.ndarray:
        """The initial times, datetime64[ns] [time], ascending."""
        return self._statistics["init_time"].values

    @property
    def checksums(self) -> dict[str, str]:
        """The checksum of each forecast's state."""
        return dict(self._statistics.attrs["sha256"])

    def values(self, metric: str, forecast: str, channel: Channel, region: str = "global") -> np.ndarray:
        """A score by lead, float64 [lead]."""
        # xarray's own selection by labels takes a millisecond, and a table has thousands of scores
        labels = {"metric": metric, "forecast": forecast, "region": region}
        where = {name: self._positions[name][label] for name, label in labels.items()}
        if channel.level is not None:
            where["level"] = self._positions["level"][channel.level]
        return self.dataset.variables[channel.variable].isel(where).values

    @cached_property
    def _positions(self) -> dict[str, dict[Any, int]]:
        """Where each label is, by dimension."""
        names = [name for name in ("metric", "forecast", "region", "level") if name in self.dataset.variables]
        return {name: {label: at for at, label in enumerate(self.dataset[name].values.tolist())} for name in names}

    def at(self, metric: str, forecast: str, channel: Channel, lead: np.timedelta64) -> float:
        """A score at a lead; NaN where that lead was not scored."""
        where = np.flatnonzero(self.leads == lead)
        return float(self.values(metric, forecast, channel)[where[0]]) if where.size else float("nan")

    def ratio(self, forecast: str, reference: str, channel: Channel, lead: np.timedelta64) -> float:
        """The RMSE of one forecast over that of another at a lead; NaN where that lead was not scored."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mine, other = (np.float64(self.at("rmse", name, channel, lead)) for name in (forecast, reference))
            return float(mine / other)

    @property
    def part(self) -> int | None:
        """Initial times of a part of the statistics, where these grow."""
        found = self._statistics.attrs.get(parts.PART)
        return None if found is None else int(found)

    @property
    def part_checksums(self) -> dict[str, list[str]]:
        """By forecast, the checksums of the parts of its state, of scores that grow."""
        return dict(self._statistics.attrs[parts.CHECKSUMS])

    @property
    def axes(self) -> Axes:
        """What the numbers of the states stand for."""
        return contents.axes_of(self._statistics, self.channels, self.convention)

    def states(self, metric: str | None = None) -> dict[str, ScoreState]:
        """The states behind the scores, ready to merge with those of other initial times.

        For a `metric`, what it is made of may be all that they have: of scores that grow nothing else is read.

        Raises
        ------
        UserError
            If a state is damaged.
        """
        whole = self._states is not None or self.part is None or metric not in self.axes.metrics
        key = None if whole else metric
        if key not in self._of_metric:
            self._of_metric[key] = self._read_of(key)
        return {name: state.copy() for name, state in self._of_metric[key].items()}

    def _read_of(self, metric: str | None) -> Mapping[str, ScoreState]:
        """The states of a metric alone, or of all, which are kept."""
        if metric is not None:
            names = self.axes.statistics
            wanted = [names.index(name) for name in self.axes.metrics[metric].statistics]
            return self._read(self._statistics.isel(statistic=wanted))
        if self._states is None:
            self._states = self._read_states()
        return self._states

    def unfinished(self) -> dict[str, ScoreState]:
        """The states of the initial times after the last full part, of scores that grow.

        Raises
        ------
        UserError
            If they are damaged.
        """
        assert self.part is not None
        start = len(self.initial_times) // self.part * self.part
        states = self._read(self._statistics.isel(init_time=slice(start, None)))
        for name, state in states.items():
            if len(state) and state.checksum() != self.part_checksums[name][-1]:
                raise _damaged(f" of {name}")
        return states

    def _read_states(self) -> dict[str, ScoreState]:
        states = self._read(self._statistics)
        for name, state in states.items():
            if self.part is None:
                good = state.checksum() == self.checksums[name]
            else:
                known = self.part_checksums[name]
                good = state.part_checksums(self.part) == known and checksum_of_parts(known) == self.checksums[name]
            if not good:
                raise _damaged(f" of {name}")
        return states

    def _read(self, statistics: xr.Dataset) -> dict[str, ScoreState]:
        try:
            statistics = statistics.load()
        # see `open`
        except Exception as error:
            raise _damaged("", f"{type(error).__name__}: {error}") from error
        return contents.states_of(statistics, contents.axes_of(statistics, self.channels, self.convention))

    def csv(self) -> str:
        """All scores as comma-separated values, one a line."""
        known = metrics_of(map(str, self._statistics["statistic"].values), self.convention)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["forecast", "metric", "region", "variable", "level", "lead_hours", "value", "units", "convention", "truth"]
        )
        for region in map(str, self.dataset["region"].values):
            for channel in self.channels:
                unit = self.dataset[channel.variable].attrs.get("units", "")
                level = "" if channel.level is None else f"{channel.level:g}"
                for metric in self.metrics:
                    units = "" if not known[metric].has_unit else f"({unit})^2" if known[metric].squared else unit
                    for forecast in self.forecasts:
                        for hours, value in zip(
                            self.lead_hours, self.values(metric, forecast, channel, region), strict=True
                        ):
                            labels = [forecast, metric, region, channel.variable, level]
                            row = [*labels, f"{hours:g}", f"{value:.8g}", units, self.convention, self.truth_name]
                            writer.writerow(row)
        return text.getvalue()


def _damaged(whose: str, why: str = "their checksum differs") -> UserError:
    remedy = "remove the scores, and `graphufs evaluate` makes them again"
    return UserError(f"the stored statistics{whose} are damaged ({why}); {remedy}")
