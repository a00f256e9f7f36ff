"""The nights on the page: how good the forecasts of each initial time were, and where there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphufs.report.charts import wide_axes
from graphufs.report.svg import GRID, LINES, MUTED, TEXT, colour, drawing, to_svg
from graphufs.vocabulary.labels import forecast_name, number
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score import FORECAST

REFERENCES = ("persistence", "climatology")
SINGLE = 62
"""Initial times that are listed one by one, the newest; those before are listed by month."""
MARKED = 200
"""Points of a line that are marked, at most: more are not told apart, and take as long as all else."""


@dataclass(frozen=True)
class Night:
    """A line of the page's list: an initial time with the ratios to the references, or why it has none; or a month."""

    time: str
    ratios: tuple[str, ...]
    hole: str


@dataclass(frozen=True)
class Nights:
    """What the page shows of its initial times."""

    figure: str
    lead: str
    references: tuple[str, ...]
    rows: tuple[Night, ...]
    scored: int
    holes: int


def nights(scores: Scores, lead: np.timedelta64) -> Nights | None:
    """The nights of nightly scores, the newest first; None for other scores, which know of no holes."""
    holes: Mapping[str, str] | None = scores.dataset.attrs.get("holes")
    if holes is None:
        return None
    ratios = {name: _ratios(scores, name, lead) for name in REFERENCES if name in scores.forecasts}
    times = scores.initial_times
    rows = [
        Night(str(time.astype("datetime64[h]")), tuple(number(values[at]) for values in ratios.values()), "")
        for at, time in list(enumerate(times))[-SINGLE:]
    ]
    rows += [Night(time, (), why) for time, why in holes.items()]
    rows += _months(times[:-SINGLE], {name: values[:-SINGLE] for name, values in ratios.items()})
    rows.sort(key=lambda row: row.time, reverse=True)
    missing = np.array(sorted(holes), "datetime64[ns]")
    named = tuple(forecast_name(name) for name in ratios)
    return Nights(_chart(times, missing, ratios, lead), lead_name(lead), named, tuple(rows), len(times), len(holes))


def _months(times: np.ndarray, ratios: Mapping[str, np.ndarray]) -> list[Night]:
    """A line for each month of some initial times [time], with the mean ratios [time] over these."""
    months = times.astype("datetime64[M]")
    found = []
    for month in np.unique(months):
        there = months == month
        means = tuple(number(values[there].mean()) for values in ratios.values())
        found.append(Night(f"{month}, mean of {int(there.sum())}", means, ""))
    return found


def _ratios(scores: Scores, reference: str, lead: np.timedelta64) -> np.ndarray:
    """The emulator's RMSE over a reference's at a lead, the mean over the targets, by initial time, float64 [init]."""
    at = int(np.flatnonzero(scores.leads == lead)[0])
    states = scores.states("rmse")
    mine, other = (states[name].by_initial_time(["rmse"])["rmse"][:, at, :, 0] for name in (FORECAST, reference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((mine / other).mean(axis=1))


def _chart(times: np.ndarray, holes: np.ndarray, ratios: Mapping[str, np.ndarray], lead: np.timedelta64) -> str:
    """The ratios by initial time, with a gap and a mark at each hole, as SVG."""
    with drawing("nights"):
        figure, axes = wide_axes()
        for hole in holes:
            axes.axvline(hole, color=GRID, linewidth=5, zorder=0)
        axes.axhline(1.0, color=TEXT, linewidth=0.9)
        every = np.concatenate([times, holes])
        order = np.argsort(every)
        for name, values in ratios.items():
            line = LINES[name]
            broken = np.concatenate([values, np.full(len(holes), np.nan)])[order]
            axes.plot(
                every[order], broken, color=colour(line.colour), linewidth=1.4,
                marker="o" if len(every) <= MARKED else "", markersize=3.5,
                label=f"against {forecast_name(name).lower()}",
            )  # fmt: skip
        if len(holes):
            zero = np.zeros(len(holes))
            axes.plot(holes, zero, "x", color=MUTED, markersize=6, label="no score", clip_on=False, zorder=4)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("initial time")
        axes.set_ylabel(f"RMSE ratio at {lead_name(lead)} (1)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), borderaxespad=0)
        return to_svg(figure, f"The emulator's RMSE over the baselines' at {lead_name(lead)} by initial time")
