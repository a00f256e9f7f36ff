"""What the scores say in a few numbers and plain sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphufs.vocabulary.labels import forecast_name, number
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import shown_leads
from graphufs.weatherbench.scoring.score import FORECAST


@dataclass(frozen=True)
class Tile:
    """A number worth a glance."""

    value: str
    label: str
    note: str


@dataclass(frozen=True)
class Cell:
    """The emulator's RMSE at a lead, and its ratio to each baseline's."""

    rmse: str
    ratios: tuple[tuple[str, str, bool], ...]
    """For each baseline its name, the ratio, and whether the emulator is better."""


@dataclass(frozen=True)
class SummaryRow:
    """A target's cells, and its other metrics of the emulator by lead."""

    name: str
    unit: str
    cells: tuple[Cell, ...]
    others: tuple[tuple[str, tuple[str, ...]], ...]


def tiles(scores: Scores) -> list[Tile]:
    """The headline: ratios to persistence and climatology at one day and three, and how long climatology is beaten."""
    made = []
    for baseline, lead in (("persistence", np.timedelta64(24, "h")), ("climatology", np.timedelta64(72, "h"))):
        if lead not in scores.leads:
            lead = scores.leads[-1]
        ratios = np.array([scores.ratio(FORECAST, baseline, channel, lead) for channel in scores.channels])
        made.append(
            Tile(
                number(float(ratios.mean())),
                f"RMSE ÷ {forecast_name(baseline).lower()} at {lead_name(lead)}",
                f"mean of {len(ratios)} targets, {number(float(ratios.min()))} to {number(float(ratios.max()))}",
            )
        )
    horizons = [lead_beaten(scores, "climatology", channel) for channel in scores.channels]
    if None in horizons:
        made.append(Tile("–", "climatology beaten for", "the climatology has no score for some target"))
    else:
        shortest = min(hours for hours in horizons if hours is not None)
        longest = max(hours for hours in horizons if hours is not None)
        low, high = (lead_name(np.timedelta64(int(hours), "h")) for hours in (shortest, longest))
        note = f"worst of {len(horizons)} targets; the best for {high}"
        if shortest >= scores.lead_hours.max():
            low, note = f"all {low}", f"by all {len(horizons)} targets"
        made.append(Tile(low, "climatology beaten for", note))
    count = len(scores.initial_times)
    first, last = (str(scores.initial_times[at].astype("datetime64[D]")) for at in (0, -1))
    made.append(Tile(str(count), "initial times", f"{first} to {last}, up to {lead_name(scores.leads.max())} each"))
    return made


def lead_beaten(scores: Scores, baseline: str, channel: Channel) -> float | None:
    """Hours up to which the emulator's RMSE is below the baseline's without a break; None where it has no value."""
    mine, other = (scores.values("rmse", name, channel) for name in (FORECAST, baseline))
    if not np.isfinite(other).all():
        return None
    worse = np.flatnonzero(~(mine < other))
    reached = scores.lead_hours if not worse.size else scores.lead_hours[: worse[0]]
    return float(reached[-1]) if reached.size else 0.0


def rows(scores: Scores) -> list[SummaryRow]:
    """The score table, a row a target."""
    leads = shown_leads(scores)
    baselines = [name for name in scores.forecasts if name != FORECAST]
    made = []
    for channel in scores.channels:
        unit = scores.unit(channel)
        cells = []
        for lead in leads:
            ratios = [(name, scores.ratio(FORECAST, name, channel, lead)) for name in baselines]
            cells.append(
                Cell(
                    number(scores.at("rmse", FORECAST, channel, lead) * unit.scale),
                    tuple((forecast_name(name), number(ratio), bool(ratio < 1)) for name, ratio in ratios),
                )
            )
        others = []
        for label, metric, forecast, scale in (
            ("RMSE of persistence", "rmse", "persistence", unit.scale),
            ("RMSE of climatology", "rmse", "climatology", unit.scale),
            ("RMSE of damped persistence", "rmse", "damped_persistence", unit.scale),
            ("MAE", "mae", FORECAST, unit.scale),
            ("Bias", "bias", FORECAST, unit.scale),
            ("ACC", "acc", FORECAST, 1.0),
        ):
            if forecast in scores.forecasts:
                values = (scores.at(metric, forecast, channel, lead) * scale for lead in leads)
                others.append((label, tuple(number(value).replace("-", "−") for value in values)))
        made.append(SummaryRow(scores.channel_name(channel), unit.name, tuple(cells), tuple(others)))
    return made
