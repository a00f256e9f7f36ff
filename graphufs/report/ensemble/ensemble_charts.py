"""Charts of ensembles: spread over error by lead, rank histograms, reliability, spectra of members."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from graphufs.report.charts import SIZE, lead_axis, small_axes
from graphufs.report.spectra import wavenumber_axes
from graphufs.report.svg import MUTED, TEXT, colour, drawing, to_svg
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.diagrams import reliability
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.histograms import Histograms
from graphufs.weatherbench.scoring.score import FORECAST
from graphufs.weatherbench.scoring.spectra import TRUTH

GLOBAL = "global"


def shades(count: int) -> np.ndarray:
    """How opaque lines of one colour are, the last one fully, float64 [line]."""
    return np.linspace(0.35, 1.0, count) if count > 1 else np.ones(1)


def spread_skill_chart(scores: Scores, channel: Channel, region: str = GLOBAL) -> str:
    """Spread over error by lead, with and without the correction for the number of members, as SVG."""
    corrected, plain = (
        scores.values(name, FORECAST, channel, region) for name in ("spread_skill", "spread_skill_uncorrected")
    )
    with drawing(f"spread {channel}"):
        figure, axes = small_axes()
        axes.axhline(1.0, color=TEXT, linewidth=0.9)
        days = scores.lead_hours / 24
        axes.plot(days, corrected, color=colour("emulator"), linewidth=2.4)
        axes.plot(days, plain, color=colour("emulator"), linewidth=1.2, linestyle=(0, (5, 2)))
        values = np.concatenate([corrected, plain])
        values = values[np.isfinite(values)]
        axes.set_ylim(0, min(max(1.3, 1.08 * float(values.max(initial=0))), 4))
        lead_axis(axes, float(scores.lead_hours.max()))
        axes.set_ylabel("spread / error (1)")
        axes.set_title(scores.channel_name(channel))
        return to_svg(figure, f"Spread over error of {scores.channel_name(channel)} by lead time")


def rank_chart(
    scores: Scores, histograms: Histograms, position: int, leads: Sequence[np.timedelta64], region: str = GLOBAL
) -> str | None:
    """The rank of the truth among the members at some leads, as SVG; None where it is not known."""
    channel = histograms.channels[position]
    rows = [int(np.flatnonzero(histograms.leads == lead)[0]) for lead in leads]
    shares = histograms.ranks(FORECAST)[rows, position, histograms.regions.index(region)]
    if not np.isfinite(shares).any():
        return None
    bins = shares.shape[-1]
    with drawing(f"ranks {channel}"):
        figure, axes = small_axes()
        axes.axhline(1.0, color=TEXT, linewidth=0.9)
        for lead, share, shade in zip(leads, shares, shades(len(leads)), strict=True):
            axes.stairs(
                share * bins, np.arange(bins + 1) - 0.5, color=colour("emulator"), alpha=shade, linewidth=1.8,
                label=lead_name(lead),
            )  # fmt: skip
        axes.set_xlim(-0.5, bins - 0.5)
        axes.set_ylim(0, max(1.5, 1.25 * float(np.nanmax(shares)) * bins))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("members below the truth")
        axes.set_ylabel("share / even share (1)")
        axes.set_title(scores.channel_name(channel))
        axes.legend(loc="upper center", ncols=3, labelcolor=MUTED, handlelength=1.6, columnspacing=1.2)
        what = ", ".join(map(lead_name, leads))
        return to_svg(figure, f"Rank histogram of {scores.channel_name(channel)} after {what}")


def reliability_chart(
    scores: Scores, histograms: Histograms, position: int, lead: np.timedelta64, region: str = GLOBAL
) -> str | None:
    """How often events came true by the probability they were forecast with, as SVG; None without thresholds.

    Below is how often each probability was forecast.
    """
    channel, row = histograms.channels[position], int(np.flatnonzero(histograms.leads == lead)[0])
    if not histograms.quantiles:
        return None
    shares = histograms.exceedance(FORECAST)[:, row, position, histograms.regions.index(region)]
    if not np.isfinite(shares).any():
        return None
    found = reliability(shares)
    width, height = SIZE[0], SIZE[1] + 1.0
    styles = [(0, (1.5, 1.5)), (0, (5, 2)), "-", (0, (5, 1.5, 1, 1.5))]
    with drawing(f"reliability {channel}"):
        figure = Figure(figsize=(width, height))
        above = figure.add_axes((0.14, 0.38, 0.83, 0.54))
        below = figure.add_axes((0.14, 0.13, 0.83, 0.19), sharex=above)
        above.plot([0, 1], [0, 1], color=TEXT, linewidth=0.9)
        lines = zip(histograms.quantiles, found.observed, found.frequency, shades(len(shares)), strict=True)
        for number, (quantile, observed, frequency, shade) in enumerate(lines):
            style = {"color": colour("emulator"), "alpha": shade, "linestyle": styles[number % len(styles)]}
            above.plot(found.probability, observed, marker="o", markersize=3, label=f"above {quantile:g}", **style)
            below.plot(found.probability, frequency, **style)
        above.set_xlim(-0.02, 1.02)
        above.set_ylim(-0.02, 1.02)
        above.tick_params(labelbottom=False)
        below.set_ylim(bottom=0)
        above.set_ylabel("came true (1)")
        below.set_ylabel("forecast (1)")
        below.set_xlabel("forecast probability")
        above.set_title(scores.channel_name(channel))
        above.legend(loc="upper left", labelcolor=MUTED, handlelength=2.4)
        return to_svg(figure, f"Reliability diagram of {scores.channel_name(channel)} after {lead_name(lead)}")


def member_spectra_chart(scores: Scores, diagnostics: Diagnostics, position: int) -> str | None:
    """The spectrum of each member beside the truth's and that of the mean, as SVG; None where there are none.

    Above at the last lead, below the mean of the members over the truth at each.
    """
    if diagnostics.member_spectra is None or diagnostics.spectra is None:
        return None
    channel = diagnostics.channels[position]
    unit = scores.unit(channel)
    scale = unit.scale**2
    members = diagnostics.member_spectra.mean()[:, :, position, 1:] * scale
    of_mean, truth = (
        diagnostics.spectra.mean(name)[:, position].mean(axis=1)[:, 1:] * scale for name in (FORECAST, TRUTH)
    )
    if not all(np.isfinite(values).all() for values in (members, truth)):
        return None
    wavenumber = np.arange(1, truth.shape[-1] + 1)
    last = lead_name(diagnostics.leads[-1])
    with drawing(f"member spectra {channel}"):
        figure, above, below = wavenumber_axes(unit, wavenumber)
        above.plot(wavenumber, members[-1].T, color=colour("emulator"), linewidth=0.7, alpha=0.5)
        above.plot([], [], color=colour("emulator"), linewidth=1.4, label=f"members, {last}")
        above.plot(
            wavenumber, of_mean[-1], color=colour("persistence"), linewidth=1.3, linestyle=(0, (1.5, 1.5)),
            label=f"their mean, {last}",
        )  # fmt: skip
        above.plot(wavenumber, truth[-1], color=TEXT, linewidth=1.2, linestyle=(0, (5, 2)), label="truth")
        for row, shade in enumerate(shades(len(diagnostics.leads))):
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = members[row].mean(axis=0) / truth[row]
            below.plot(wavenumber, ratio, color=colour("emulator"), alpha=shade, linewidth=1.1 + row * 0.35)
        above.set_title(scores.channel_name(channel))
        above.legend(loc="lower left", labelcolor=MUTED, handlelength=2.2)
        return to_svg(figure, f"Zonal spectra of the members of {scores.channel_name(channel)} and of the truth")
