"""The part of a page that is about an ensemble: its scores, histograms, spectra, maps and plumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from markupsafe import Markup

from graphufs.report import charts
from graphufs.report.ensemble.ensemble_charts import (
    member_spectra_chart,
    rank_chart,
    reliability_chart,
    spread_skill_chart,
)
from graphufs.report.ensemble.plumes import Plumes, place, plume_chart
from graphufs.report.maps import spread_maps
from graphufs.report.templates import filled
from graphufs.report.uncertainty import LEVEL
from graphufs.vocabulary.labels import forecast_name
from graphufs.weatherbench.compare.significance import AT_LEAST, Inference, score_uncertainty
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import shown_leads
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.histograms import Histograms
from graphufs.weatherbench.scoring.score import FORECAST

RANK_LEADS = 3
"""Leads that a rank histogram is drawn of."""


def ensemble_part(
    scores: Scores,
    typical_lead: np.timedelta64,
    land: np.ndarray | None = None,
    plumes: Plumes | None = None,
    names: Mapping[str, str] | None = None,
) -> Markup:
    """The part as HTML; empty where the scores are not an ensemble's.

    Reliability is shown at `typical_lead`. The outline of the land fraction [lat, lon], on the grid of the scores, is
    drawn on maps. `names` are other names of forecasts.
    """
    if scores.histograms is None:
        return Markup("")
    histograms = Histograms.restore(scores.histograms)
    diagnostics = None if scores.diagnostics is None else Diagnostics.restore(scores.diagnostics)
    bands: dict[str, Inference] = {}
    if len(scores.initial_times) >= AT_LEAST:
        bands = {name: score_uncertainty(state, "crps", level=LEVEL) for name, state in scores.states("crps").items()}
    channels = [channel for channel in scores.channels if _scored(scores, channel)]
    leads = shown_leads(scores)
    chosen = [leads[at] for at in sorted(set(np.linspace(0, len(leads) - 1, RANK_LEADS).astype(int)))]
    positions = range(len(histograms.channels))
    html = filled(
        "part",
        package="graphufs.report.ensemble",
        members=histograms.ranks(FORECAST).shape[-1] - 1,
        singles=[
            (names or {}).get(name, forecast_name(name)).lower()
            for name in scores.forecasts
            if histograms.ranks(name).shape[-1] == 2
        ],
        bands=bool(bands),
        legend=charts.legend(scores, names),
        crps=[Markup(charts.score_chart(scores, channel, "crps", bands)) for channel in channels],
        spread_skill=[Markup(spread_skill_chart(scores, channel)) for channel in channels],
        ranks=_markup(rank_chart(scores, histograms, at, chosen) for at in positions),
        reliability=_markup(reliability_chart(scores, histograms, at, typical_lead) for at in positions),
        lead=lead_name(typical_lead),
        quantiles=[f"{quantile:g}" for quantile in histograms.quantiles],
        **_diagnosed(scores, diagnostics, land),
        **_plumes(scores, plumes),
    )
    return Markup(html)


def _diagnosed(scores: Scores, diagnostics: Diagnostics | None, land: np.ndarray | None) -> dict[str, object]:
    if diagnostics is None or not diagnostics.ensemble:
        return {"spectra": [], "maps": [], "diagnosed": 0, "land": False}
    positions = range(len(diagnostics.channels))
    return {
        "spectra": _markup(member_spectra_chart(scores, diagnostics, at) for at in positions),
        "maps": [
            (scores.channel_name(diagnostics.channels[at]), Markup(spread_maps(scores, diagnostics, at, land)))
            for at in positions
        ],
        "diagnosed": len(diagnostics.initial_times),
        "land": land is not None,
    }


def _plumes(scores: Scores, found: Plumes | None) -> dict[str, object]:
    if found is None:
        return {"plumes": [], "plume_time": ""}
    charts_of = [
        (
            place(point),
            [Markup(plume_chart(scores, found, number, at)) for at in range(len(found.channels))],
        )
        for number, point in enumerate(found.points)
    ]
    return {"plumes": charts_of, "plume_time": str(found.initial_time.astype("datetime64[m]")).replace("T", " ")}


def _scored(scores: Scores, channel: Channel) -> bool:
    """Whether a channel has a CRPS: a vector has none."""
    return bool(np.isfinite(scores.values("crps", FORECAST, channel)).any())


def _markup(figures: Iterable[str | None]) -> list[Markup]:
    return [Markup(figure) for figure in figures if figure is not None]
