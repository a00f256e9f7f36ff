"""The page on any stores that were scored: what `graphufs score --report` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from graphufs.report import charts
from graphufs.report.ensemble.part import ensemble_part
from graphufs.report.ensemble.plumes import Point, plumes
from graphufs.report.maps import error_maps
from graphufs.report.spectra import spectra_chart
from graphufs.report.svg import page_style
from graphufs.report.templates import filled
from graphufs.report.typical import typical_lead, typical_time
from graphufs.weatherbench.inputs.channels import VECTORS
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.score_request import ScoreRequest, StorePaths
from graphufs.weatherbench.score_stores import ScoringJob, ScoringResult, prepare_scoring
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.score import FORECAST

NAMES = {FORECAST: "Forecast"}


def render(stores: StorePaths, wanted: ScoreRequest, outcome: ScoringResult, points: Sequence[Point] = ()) -> str:
    """The page as HTML, with plumes at `points` where the forecasts are an ensemble.

    `outcome` is what came of `wanted`, with the diagnostics that it asked for.

    Raises
    ------
    UserError
        If a point lies outside the grid.
    """
    ready = prepare_scoring(stores.open(), wanted)
    scores = scores_of(outcome, ready)
    lead = typical_lead(scores)
    found = None
    if points and ready.forecasts.members is not None:
        time = typical_time(scores, lead, scores.initial_times)
        found = plumes(ready.forecasts, ready.truth, time, points)
    diagnostics = outcome.diagnostics
    channels = [] if diagnostics is None else list(enumerate(diagnostics.channels))
    ensemble = ensemble_part(scores, lead, ready.land, found, NAMES)
    first, last = (str(scores.initial_times[at].astype("datetime64[h]")).replace("T", " ") for at in (0, -1))
    return filled(
        "store_page",
        style=page_style(),
        name=stores.forecast.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr"),
        initial_times=len(scores.initial_times),
        what_times="valid times" if wanted.by_valid else "initial times",
        first=f"{first} UTC",
        last=f"{last} UTC",
        facts=" · ".join([f"Truth: {stores.truth}", f"grid {outcome.grid}", f"{scores.convention} conventions"]),
        notes=_notes(outcome),
        legend=charts.legend(scores, NAMES),
        rmse=[Markup(charts.rmse_chart(scores, channel)) for channel in scores.channels],
        ensemble=ensemble,
        spectra=[] if ensemble or diagnostics is None else _spectra(scores, diagnostics),
        maps=[
            (scores.channel_name(channel), Markup(error_maps(scores, diagnostics, at, ready.land)))
            for at, channel in channels
            if diagnostics is not None
        ],
        land=ready.land is not None,
    )


def scores_of(outcome: ScoringResult, ready: ScoringJob) -> Scores:
    """What came of scoring stores, as scores of an experiment are, with the units of the forecasts."""
    forecasts = ready.forecasts
    units = {name: forecasts.attributes(name) for name in {channel.variable for channel in forecasts.channels}}
    units |= {name: units[of[0]] for name, of in VECTORS.items() if of[0] in units}
    attributes: dict[str, Any] = {"grid": outcome.grid, "vertical": forecasts.vertical}
    return Scores.from_states(
        outcome.states,
        attributes,
        units,
        None if outcome.diagnostics is None else outcome.diagnostics.dataset(),
        None if outcome.histograms is None else outcome.histograms.dataset(),
    )


def _spectra(scores: Scores, diagnostics: Diagnostics) -> list[Markup]:
    figures = (spectra_chart(scores, diagnostics, at) for at in range(len(diagnostics.channels)))
    return [Markup(figure) for figure in figures if figure is not None]


def _notes(outcome: ScoringResult) -> list[str]:
    """What a reader must know before believing the scores."""
    notes = [f"{note[:1].upper()}{note[1:]}." for note in outcome.notes]
    if outcome.excluded:
        time, missing = next(iter(outcome.excluded.items()))
        notes.append(
            f"{len(outcome.excluded)} initial times are left out because truth is missing: for example, "
            f"{np.datetime_as_string(time, 'h')} has none at {np.datetime_as_string(missing, 'h')}."
        )
    return notes
