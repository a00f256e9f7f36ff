"""What the groups of a scores store hold, as datasets with labels, and the checksums of these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from graphufs.vocabulary.conventions import Convention
from graphufs.weatherbench.inputs.channels import Channel, index_of_level, unpack
from graphufs.weatherbench.scoring.running_sums import RunningSums
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState


def common_attributes(axes: Axes, initial_times: int, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded with scores and statistics alike: the `attributes`, and what the axes say."""
    return {
        "convention": axes.convention,
        "skipna": axes.skipna,
        "initial_times": initial_times,
        "channels": [[channel.variable, channel.level] for channel in axes.channels],
        **attributes,
    }


def scores_dataset(
    finished: Mapping[str, Mapping[str, np.ndarray]],
    axes: Axes,
    common: Mapping[str, Any],
    variable_attributes: Mapping[str, Mapping[str, Any]],
) -> xr.Dataset:
    """The root group: scores by forecast and metric, each [lead, channel, region]."""
    metrics = axes.metrics
    scores = _dataset(
        np.moveaxis(np.stack([np.stack(list(one.values())) for one in finished.values()]), -1, 2),
        axes.channels,
        ["forecast", "metric", "region", "lead_time", "channel"],
        {**_labels(finished, axes), "metric": list(metrics)},
    ).assign_attrs({**common, **{f"metric_{name}": metric.description for name, metric in metrics.items()}})
    for name in scores.data_vars:
        scores[name].attrs.update(variable_attributes.get(str(name), {}))
    return scores


def statistics_dataset(states: Mapping[str, ScoreState], attributes: Mapping[str, Any]) -> xr.Dataset:
    """The spatial means by initial time of states that share these."""
    axes = next(iter(states.values())).axes
    times = next(iter(states.values())).initial_times
    return _dataset(
        np.moveaxis(np.stack([state.stacked() for state in states.values()]), -1, 3),
        axes.channels,
        ["forecast", "init_time", "statistic", "region", "lead_time", "channel"],
        {**_labels(states, axes), "statistic": list(axes.statistics), "init_time": times},
    ).assign_attrs(attributes)


def states_of(statistics: xr.Dataset, axes: Axes) -> dict[str, ScoreState]:
    """The states that such a dataset, or a piece of one, was made of; `axes` has its statistics."""
    states = {}
    for position, name in enumerate(map(str, statistics["forecast"].values)):
        found = _numbers(statistics.isel(forecast=position), axes.channels, "init_time", "statistic")
        states[name] = ScoreState(axes)
        for time, values in zip(statistics["init_time"].values, found, strict=True):
            states[name].update(time, values)
    return states


def axes_of(statistics: xr.Dataset, channels: tuple[Channel, ...], convention: Convention) -> Axes:
    """What the numbers of such a dataset stand for."""
    return Axes(
        tuple(map(str, statistics["statistic"].values)),
        tuple(statistics["lead_time"].values),
        channels,
        tuple(map(str, statistics["region"].values)),
        convention,
        bool(statistics.attrs.get("skipna", False)),
    )


def sums_dataset(sums: Mapping[str, RunningSums]) -> xr.Dataset:
    """The running sums of some forecasts."""
    first = next(iter(sums.values()))
    return _dataset(
        np.moveaxis(np.stack([np.stack(list(one.sums.values())) for one in sums.values()]), -1, 2),
        first.axes.channels,
        ["forecast", "sum", "region", "lead_time", "channel"],
        {**_labels(sums, first.axes), "sum": list(first.sums)},
    ).assign_attrs({"initial_times": first.initial_times})


def sums_of(dataset: xr.Dataset, axes: Axes) -> dict[str, RunningSums]:
    """The running sums, of these axes, that such a dataset was made of."""
    found = _numbers(dataset, axes.channels, "forecast", "sum")
    names, count = list(map(str, dataset["sum"].values)), int(dataset.attrs["initial_times"])
    return {
        str(forecast): RunningSums(axes, count, dict(zip(names, values, strict=True)))
        for forecast, values in zip(dataset["forecast"].values, found, strict=True)
    }


def checksums(dataset: xr.Dataset, statistics: xr.Dataset, sums: xr.Dataset | None) -> dict[str, str]:
    """Those of the scores and running sums, and of the axes of the statistics, whose values the states have them of."""
    axes = statistics.drop_vars(list(statistics.data_vars))
    return {"scores": _fingerprint(dataset), "axes": _fingerprint(axes)} | (
        {} if sums is None else {"sums": _fingerprint(sums)}
    )


def _labels(forecasts: Mapping[str, Any], axes: Axes) -> dict[str, Any]:
    return {"forecast": list(forecasts), "region": list(axes.regions), "lead_time": np.array(axes.leads)}


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


def _numbers(dataset: xr.Dataset, channels: tuple[Channel, ...], *first: str) -> np.ndarray:
    """What `_dataset` was given, [*first, lead_time, channel, region]."""
    pieces = []
    for variable, level in channels:
        array = dataset[variable]
        if level is not None:
            array = array.isel(level=index_of_level(dataset, level))
        pieces.append(array.transpose(*first, "lead_time", "region").values)
    return np.stack(pieces, axis=3)


def _dataset(
    values: np.ndarray, channels: tuple[Channel, ...], dims: list[str], coordinates: dict[str, Any]
) -> xr.Dataset:
    variables, level = unpack(values, channels, dims)
    return xr.Dataset(variables, coordinates | level)
