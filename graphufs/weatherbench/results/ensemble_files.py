"""Histograms of ensembles, and what is read off them, as a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from graphufs.weatherbench.inputs.channels import unpack
from graphufs.weatherbench.metrics.diagrams import central_reliability, reliability, roc
from graphufs.weatherbench.scoring.histograms import Histograms


def histogram_results(histograms: Histograms, name: str) -> xr.Dataset:
    """A forecast's histograms and what is read off them, as `rank_histogram.X` and so on of each variable X."""
    ranks = histograms.ranks(name)
    members = ranks.shape[-1] - 1
    places: dict[str, tuple[np.ndarray, list[str]]] = {"rank_histogram": (ranks, ["bins"])}
    coordinates: dict[str, Any] = {
        "lead_time": histograms.leads,
        "region": list(histograms.regions),
        "bins": np.arange(members + 1),
    }
    if members > 1:
        values, coordinates["desired_prob"] = central_reliability(ranks)
        places["central_reliability"] = values, ["desired_prob"]
    leading: dict[str, list[str]] = {kind: [] for kind in places}
    if histograms.quantiles:
        shares = histograms.exceedance(name)
        diagram, curve = reliability(shares), roc(shares)
        coordinates |= {"quantile": list(histograms.quantiles), "probability": diagram.probability}
        coordinates["level_of_warning"] = np.arange(members + 1, -1, -1)
        at_thresholds = {
            "reliability": (diagram.observed, ["probability"]),
            "forecast_frequency": (diagram.frequency, ["probability"]),
            "hit_rate": (curve.hit_rate, ["level_of_warning"]),
            "false_alarm_rate": (curve.false_alarm_rate, ["level_of_warning"]),
            "roc_area": (curve.area, []),
        }
        places |= at_thresholds
        leading |= {kind: ["quantile"] for kind in at_thresholds}
    variables: dict[str, Any] = {}
    for kind, (values, trailing) in places.items():
        parts, level = unpack(
            values, histograms.channels, [*leading[kind], "lead_time", "channel", "region", *trailing]
        )
        variables |= {f"{kind}.{variable}": part for variable, part in parts.items()}
        coordinates |= level
    return xr.Dataset(
        variables, coordinates, {"ensemble_size": members, "initial_times": len(histograms.initial_times)}
    )
