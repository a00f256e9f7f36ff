"""The score table: RMSE of the emulator and its baselines at chosen leads, with ratios, 80 columns wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphufs.replay.times import text
from graphufs.vocabulary.labels import forecast_name, json_number, number
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score import FORECAST

LEADS = tuple(np.timedelta64(hours, "h") for hours in (6, 24, 48, 72, 120, 240))
"""The leads shown, where they were scored: 6 hours, 1, 2, 3, 5 and 10 days."""

SHORT_NAMES = {"damped_persistence": "Damped pers."}


def shown_leads(scores: Scores, leads: Sequence[np.timedelta64] = LEADS) -> list[np.timedelta64]:
    """Those of `leads` that were scored; all that were scored (at most six) where none of them was."""
    there = [lead for lead in leads if lead in scores.leads]
    return there or list(scores.leads[np.linspace(0, len(scores.leads) - 1, min(6, len(scores.leads))).astype(int)])


def small_table(scores: Scores) -> dict[str, Any]:
    """RMSE of all forecasts at the shown leads as JSON, with what it takes to compare it with another's.

    `rmse` has an entry for each target: variable, level, units, and by forecast and lead (such as 24h) the value, null
    where it is not finite. Of an ensemble it is that of the mean; `members` says how many there are, and `crps` has
    their fair score as `rmse` has its.
    """
    leads, attributes = shown_leads(scores), scores.dataset.attrs
    times = scores.initial_times
    found = {
        "truth": scores.truth_name,
        "convention": attributes["convention"],
        "grid": attributes["grid"],
        "vertical": attributes["vertical"],
        "climatology_period": attributes["climatology_period"],
        "climatology_window_days": attributes["climatology_window_days"],
        "period": f"{text(times[0])}..{text(times[-1])}",
        "initial_times": len(times),
        "rmse": _by_target(scores, "rmse", leads),
    }
    if "members" in attributes:
        found |= {"members": attributes["members"], "crps": _by_target(scores, "crps", leads)}
    return found


def _by_target(scores: Scores, metric: str, leads: Sequence[np.timedelta64]) -> list[dict[str, Any]]:
    """A score of all forecasts at some leads, an entry for each target."""
    return [
        {
            "variable": channel.variable,
            "level": channel.level,
            "units": scores.dataset[channel.variable].attrs.get("units", ""),
            **{
                name: {
                    f"{lead / np.timedelta64(1, 'h'):g}h": json_number(scores.at(metric, name, channel, lead))
                    for lead in leads
                }
                for name in scores.forecasts
            },
        }
        for channel in scores.channels
    ]


def score_table(scores: Scores) -> RenderableType:
    """The table for a terminal: for each target the RMSE of all forecasts, and the emulator's ratio to baselines."""
    leads = shown_leads(scores)
    truth, count = scores.truth_label, scores.dataset.attrs["initial_times"]
    heading = Text(f"RMSE against {truth} over {count} initial times, and behind each baseline's the ")
    heading.append("emulator's ratio to it").append(" (below 1: the emulator is better)")
    parts: list[RenderableType] = [heading]
    for position, channel in enumerate(scores.channels):
        parts.append(_of_channel(scores, channel, leads, show_header=position == 0))
    return Group(*parts)


def _of_channel(scores: Scores, channel: Channel, leads: Sequence[np.timedelta64], *, show_header: bool) -> Table:
    shown = scores.unit(channel)
    title = Text(scores.channel_name(channel) + (f" ({shown.name})" if shown.name else ""), style="bold")
    table = Table(title=title, title_justify="left", box=None, show_header=show_header, padding=(0, 1, 0, 0))
    table.add_column("", width=13, no_wrap=True)
    for lead in leads:
        table.add_column(lead_name(lead) + " " * 5, justify="right", width=10, no_wrap=True)
    for forecast in scores.forecasts:
        cells = []
        for lead in leads:
            cell = Text(number(scores.at("rmse", forecast, channel, lead) * shown.scale))
            if forecast == FORECAST:
                cell.append(" " * 5)
            else:
                ratio = scores.ratio(FORECAST, forecast, channel, lead)
                cell.append(f" {_short(ratio):>4}", style="green" if ratio < 1 else "red")
            cells.append(cell)
        table.add_row(SHORT_NAMES.get(forecast, forecast_name(forecast)), *cells)
    return table


def _short(ratio: float) -> str:
    """A ratio in four characters."""
    if math.isnan(ratio):
        return "–"
    return f"{ratio:.2f}"[-4:] if ratio < 9.995 else f"{ratio:.0f}" if ratio < 999.5 else ">999"
