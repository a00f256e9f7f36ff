"""How sure the scores are: intervals by lead, and the scorecard against the strongest baseline."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from graphufs.report.comparison_page import how_tested
from graphufs.report.scorecard import scorecard
from graphufs.vocabulary.labels import forecast_name
from graphufs.weatherbench.compare.comparison import Comparison, Side, compare
from graphufs.weatherbench.compare.significance import AT_LEAST, Inference, score_uncertainty
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import shown_leads
from graphufs.weatherbench.scoring.score import FORECAST

REFERENCES = ("damped_persistence", "persistence", "climatology")
"""What a forecast is held against: the first of these that was scored."""

LEVEL = 0.05


@dataclass(frozen=True)
class Evidence:
    """What is known of chance; without intervals and scorecards where there are too few initial times."""

    bands: dict[str, Inference]
    reference: str
    test: str
    scorecards: list[tuple[str, Markup]]
    """By region."""
    too_few: int
    """How many initial times are needed, where there are fewer; 0."""


def evidence(scores: Scores) -> Evidence:
    """What the scores by initial time say about chance."""
    reference = next((name for name in REFERENCES if name in scores.forecasts), "")
    if len(scores.initial_times) < AT_LEAST:
        return Evidence({}, reference, "", [], AT_LEAST)
    bands = {name: score_uncertainty(state, "rmse", level=LEVEL) for name, state in scores.states("rmse").items()}
    if not reference:
        return Evidence(bands, "", "", [], 0)
    found: Comparison = compare(
        Side("the emulator", scores, FORECAST),
        Side(forecast_name(reference).lower(), scores, reference),
        level=LEVEL,
        control="fdr",
    )
    leads = shown_leads(scores)
    cards = [(region, Markup(scorecard(found, scores, leads, region))) for region in found.regions]
    return Evidence(bands, forecast_name(reference).lower(), how_tested(found), cards, 0)
