"""Zonal spectra by lead: at which scales forecasts lose or gain variability."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphufs.report.svg import MUTED, TEXT, colour, drawing, to_svg
from graphufs.weatherbench.results.display import Unit, lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.score import FORECAST
from graphufs.weatherbench.scoring.spectra import TRUTH

SIZE = (3.9, 3.7)


def mean_spectra(diagnostics: Diagnostics, position: int) -> dict[str, np.ndarray]:
    """The spectra of forecast and truth of one channel, [lead, wavenumber], wavenumber 0 left out.

    The mean over latitudes, each weighted with its circumference, which is in the spectrum's formula already.
    """
    if diagnostics.spectra is None:
        return {}
    return {
        name: diagnostics.spectra.mean(name)[:, position].mean(axis=1)[:, 1:]
        for name in (FORECAST, TRUTH)
        if name in diagnostics.spectra.sums
    }


def spectra_chart(scores: Scores, diagnostics: Diagnostics, position: int) -> str | None:
    """Spectra of one channel by lead, and their ratio to the truth's, as SVG; None where there are none."""
    found = mean_spectra(diagnostics, position)
    if set(found) != {FORECAST, TRUTH} or not all(np.isfinite(values).all() for values in found.values()):
        return None
    channel = diagnostics.channels[position]
    unit = scores.unit(channel)
    forecast, truth = (found[name] * unit.scale**2 for name in (FORECAST, TRUTH))
    wavenumber = np.arange(1, truth.shape[-1] + 1)
    shades = np.linspace(0.4, 1.0, len(diagnostics.leads))
    with drawing(f"spectrum {channel}"):
        figure, above, below = wavenumber_axes(unit, wavenumber)
        above.plot(wavenumber, truth.mean(axis=0), color=TEXT, linewidth=1.2, linestyle=(0, (5, 2)), label="truth")
        for row, lead in enumerate(diagnostics.leads):
            style = {"color": colour("emulator"), "alpha": shades[row], "linewidth": 1.1 + row * 0.35}
            above.plot(wavenumber, forecast[row], label=lead_name(lead), **style)
            with np.errstate(divide="ignore", invalid="ignore"):
                below.plot(wavenumber, forecast[row] / truth[row], **style)
        above.set_title(scores.channel_name(channel))
        above.legend(loc="lower left", labelcolor=MUTED, handlelength=2.2)
        return to_svg(figure, f"Zonal spectra of {scores.channel_name(channel)} by lead time, forecast and truth")


def wavenumber_axes(unit: Unit, wavenumber: np.ndarray) -> tuple[Figure, Axes, Axes]:
    """A figure with axes for spectra above, and for their ratio to the truth's below; wavenumbers are [wavenumber]."""
    figure = Figure(figsize=SIZE)
    above = figure.add_axes((0.16, 0.47, 0.81, 0.45))
    below = figure.add_axes((0.16, 0.13, 0.81, 0.29), sharex=above)
    above.set_xscale("log")
    above.set_yscale("log")
    below.axhline(1.0, color=TEXT, linewidth=0.9)
    below.set_ylim(0, 2)
    above.tick_params(labelbottom=False)
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500) if k <= wavenumber[-1]]
    below.set_xticks(ticks, [str(k) for k in ticks])
    below.minorticks_off()
    above.set_ylabel(f"energy ({unit.name}² m)" if unit.name else "energy (m)")
    below.set_ylabel("over the truth's")
    below.set_xlabel("zonal wavenumber")
    return figure, above, below
