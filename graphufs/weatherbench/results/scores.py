"""The scores store: finished scores and the states they came from, in one zarr with labels people can read.

The root group holds for each variable its scores (forecast, metric, region, lead_time, [level]), named and ordered as
WeatherBench2 names its results, with one dimension more for the compared forecasts. The group `statistics` holds the
spatial means by initial time, from which scores over other initial times, other conventions and significance can be
computed without reading a forecast again. The group `diagnostics`, where there, holds maps and spectra
(`graphufs.weatherbench.scoring.diagnostics`); `histograms`, where there, ranks and exceedance of ensembles
(`graphufs.weatherbench.scoring.histograms`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.storage.atomic import write_text
from graphufs.storage.checksums import crc32
from graphufs.storage.zarr_io import open_zarr, store_damage, write_zarr
from graphufs.vocabulary import cf
from graphufs.vocabulary.conventions import CONVENTIONS, DEFAULT, Convention
from graphufs.vocabulary.labels import truth_name
from graphufs.weatherbench.inputs.channels import Channel, index_of_level, unpack
from graphufs.weatherbench.metrics.ensemble_metrics import metrics_of
from graphufs.weatherbench.results.display import Unit, channel_name, unit
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState, require_same_times

GROUP = "statistics"
DIAGNOSTICS = "diagnostics"
HISTOGRAMS = "histograms"


class Scores:
    """Scores by forecast, metric, channel and lead; and the states behind them: groups of a store."""

    def __init__(
        self,
        dataset: xr.Dataset,
        statistics: xr.Dataset,
        diagnostics: xr.Dataset | None = None,
        histograms: xr.Dataset | None = None,
        states: Mapping[str, ScoreState] | None = None,
    ) -> None:
        self.dataset = dataset
        self._statistics = statistics
        self._states = states
        self.diagnostics = diagnostics
        self.histograms = histograms

    @classmethod
    def from_states(
        cls,
        states: Mapping[str, ScoreState],
        attributes: Mapping[str, Any],
        variable_attributes: Mapping[str, Mapping[str, Any]],
        diagnostics: xr.Dataset | None = None,
        histograms: xr.Dataset | None = None,
    ) -> Scores:
        """Finish the scores of states, by name of the forecast, that share their initial times.

        `attributes` are recorded with the scores, those of each variable are its unit and long name. `diagnostics` are
        maps and spectra over the same initial times, `histograms` those of ensembles.
        """
        times = require_same_times(states)
        axes = next(iter(states.values())).axes
        metrics = axes.metrics
        finished = [np.stack(list(state.finalize().values())) for state in states.values()]
        coordinates = {"forecast": list(states), "region": list(axes.regions), "lead_time": np.array(axes.leads)}
        channels = [[channel.variable, channel.level] for channel in axes.channels]
        common = {
            "convention": axes.convention,
            "skipna": axes.skipna,
            "initial_times": len(times),
            "channels": channels,
            **attributes,
        }
        scores = _dataset(
            np.moveaxis(np.stack(finished), -1, 2),
            axes.channels,
            ["forecast", "metric", "region", "lead_time", "channel"],
            {**coordinates, "metric": list(metrics)},
        ).assign_attrs(common | {f"metric_{name}": metric.description for name, metric in metrics.items()})
        statistics = _dataset(
            np.moveaxis(np.stack([state.stacked() for state in states.values()]), -1, 3),
            axes.channels,
            ["forecast", "init_time", "statistic", "region", "lead_time", "channel"],
            {**coordinates, "statistic": list(axes.statistics), "init_time": times},
        ).assign_attrs(common | {"sha256": {name: state.checksum() for name, state in states.items()}})
        for name in scores.data_vars:
            scores[name].attrs.update(variable_attributes.get(str(name), {}))
        return cls(scores, statistics, diagnostics, histograms, {name: state.copy() for name, state in states.items()})

    @classmethod
    def open(cls, path: Path) -> Scores:
        """Open the scores at `path`.

        Raises
        ------
        UserError
            If there are none, or they are damaged.
        """
        if not path.is_dir():
            raise UserError(f"there are no scores at {path}; run `graphufs evaluate` with this experiment first")
        damaged = f"the scores at {path} are damaged; `graphufs evaluate` makes those of an experiment again"
        if (damage := store_damage(path)) is not None:
            raise UserError(f"{damaged} ({damage})")
        try:
            dataset, statistics = open_zarr(path).load(), open_zarr(path, GROUP)
            diagnostics, histograms = (
                open_zarr(path, name) if (path / name).is_dir() else None for name in (DIAGNOSTICS, HISTOGRAMS)
            )
        # codecs and parsers raise classes of their own, which share no base below Exception
        except Exception as error:
            raise UserError(f"{damaged} ({type(error).__name__}: {error})") from error
        known = dataset.attrs.get("sha256")  # stores of before have none
        if known is not None and known != _checksums(dataset, statistics):
            raise UserError(f"{damaged} (their checksum differs)")
        return cls(dataset, statistics, diagnostics, histograms)

    def write(self, path: Path) -> None:
        """Write the store, and next to it a table with the ending .csv for people."""
        table = self.csv()
        write_text(path.with_suffix(".csv"), table)
        whole = self.dataset.assign_attrs(
            sha256=_checksums(self.dataset, self._statistics), csv_crc32=zlib.crc32(table.encode())
        )
        groups: dict[str | None, xr.Dataset] = {None: whole, GROUP: self._statistics}
        if self.diagnostics is not None:
            groups[DIAGNOSTICS] = self.diagnostics
        if self.histograms is not None:
            groups[HISTOGRAMS] = self.histograms
        write_zarr(path, groups, chunks={"maps": {"statistic": 1, "lead_time": 1}})

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

    def states(self) -> dict[str, ScoreState]:
        """The states behind the scores, ready to merge with those of other initial times.

        Raises
        ------
        UserError
            If a state is damaged.
        """
        if self._states is None:
            self._states = self._read_states()
        return {name: state.copy() for name, state in self._states.items()}

    def _read_states(self) -> dict[str, ScoreState]:
        try:
            group = self._statistics.load()
        # see `open`
        except Exception as error:
            raise UserError(
                f"the stored statistics are damaged ({type(error).__name__}: {error}); remove the scores, and "
                "`graphufs evaluate` makes them again"
            ) from error
        axes = Axes(
            tuple(map(str, group["statistic"].values)),
            tuple(group["lead_time"].values),
            self.channels,
            tuple(map(str, group["region"].values)),
            self.convention,
            bool(group.attrs.get("skipna", False)),
        )
        states = {}
        for position, name in enumerate(self.forecasts):
            of_forecast = group.isel(forecast=position)
            pieces = []
            for variable, level in axes.channels:
                array = of_forecast[variable]
                if level is not None:
                    array = array.isel(level=index_of_level(group, level))
                pieces.append(array.transpose("init_time", "statistic", "lead_time", "region").values)
            averages = np.stack(pieces, axis=3)
            states[name] = ScoreState(axes)
            for time, values in zip(group["init_time"].values, averages, strict=True):
                states[name].update(time, values)
            if states[name].checksum() != group.attrs["sha256"][name]:
                raise UserError(
                    f"the stored statistics of {name} are damaged (their checksum differs); remove the scores, and "
                    "`graphufs evaluate` makes them again"
                )
        return states

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


def _checksums(dataset: xr.Dataset, statistics: xr.Dataset) -> dict[str, str]:
    """Those of the scores, and of the axes of the statistics, whose values the states have checksums of."""
    return {"scores": _fingerprint(dataset), "axes": _fingerprint(statistics.drop_vars(list(statistics.data_vars)))}


def _fingerprint(dataset: xr.Dataset) -> str:
    """The SHA-256 of a dataset's values and coordinates, and of its channels, to find out a damaged copy."""
    digest = hashlib.sha256(json.dumps(dataset.attrs.get("channels")).encode())
    for name in sorted(map(str, dataset.variables)):
        values = dataset[name].values
        digest.update(f"{name} {dataset[name].dims} {values.shape}".encode())
        if values.dtype.kind in "mM":
            values = values.astype(f"{values.dtype.kind}8[ns]").astype("<i8")
        elif values.dtype.kind in "iufb":
            values = values.astype("<f8")
        else:
            values = np.frombuffer("\0".join(map(str, values.ravel())).encode(), np.uint8)
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _dataset(
    values: np.ndarray, channels: tuple[Channel, ...], dims: list[str], coordinates: dict[str, Any]
) -> xr.Dataset:
    variables, level = unpack(values, channels, dims)
    return xr.Dataset(variables, coordinates | level)
