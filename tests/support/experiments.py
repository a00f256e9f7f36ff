"""Small experiments on look-alike stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphufs.config.experiment import Experiment


def experiment(
    url: Path | str,
    *,
    training: tuple[str, str] = ("1993-12-31T18", "1994-01-06T18"),
    validation: tuple[str, str] = ("1994-01-07T00", "1994-01-08T18"),
    evaluation: tuple[str, str] = ("1994-01-09T00", "1994-01-11T18"),
    normalization: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    lead_time: str = "24h",
    every: str = "24h",
    **data: Any,
) -> Experiment:
    """An experiment in P0's style on the store at `url`; `data` overrides its data section."""
    periods = {"training": training, "validation": validation, "evaluation": evaluation}
    section: dict[str, Any] = {
        "source": {"url": str(url), **(source or {})},
        "inputs": ["pressfc", "ugrd10m", "tmp", "land_static", "hgtsfc_static", "dswrf_avetoa"],
        "targets": ["pressfc", "ugrd10m", "tmp"],
        "forcings": ["dswrf_avetoa"],
        "levels": [100, 500, 1000],
        **{name: {"start": start, "end": end} for name, (start, end) in periods.items()},
        **data,
    }
    return Experiment.model_validate(
        {
            "name": "look-alike",
            "data": section,
            "normalization": normalization or {},
            "training": {"batch_size": 2, "stages": [{"name": "one", "updates": 3}]},
            "forecast": {"lead_time": lead_time, "every": every},
        }
    )


def daily_experiment(url: Path | str, **overrides: Any) -> Experiment:
    """One on a store with a stamp a day, so that few frames cover several months."""
    settings: dict[str, Any] = {
        "time_step": "24h",
        "training": ("1993-12-31T18", "1994-02-20T18"),
        "validation": ("1994-02-21T18", "1994-03-02T18"),
        "evaluation": ("1994-03-03T18", "1994-03-20T18"),
        "lead_time": "48h",
        **overrides,
    }
    return experiment(url, **settings)


def ocean_experiment(url: Path | str, **overrides: Any) -> Experiment:
    """One on an ocean store."""
    settings: dict[str, Any] = {
        "source": {"component": "mom6"},
        "inputs": ["temp", "SSH"],
        "targets": ["temp", "SSH"],
        "forcings": [],
        "levels": [0.5, 50, 500],
        "training": ("1993-12-31T18", "1994-01-02T18"),
        "validation": ("1994-01-03T00", "1994-01-03T18"),
        "evaluation": ("1994-01-04T00", "1994-01-05T06"),
        "lead_time": "12h",
        **overrides,
    }
    return experiment(url, **settings)
