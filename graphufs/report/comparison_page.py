"""A comparison of two forecasts as one self-contained HTML page."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from graphufs.report import charts
from graphufs.report.scorecard import scorecard
from graphufs.report.svg import page_style
from graphufs.report.templates import filled
from graphufs.weatherbench.compare.comparison import Comparison
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import shown_leads

METHODS = {
    "hac": "a t-test that knows that initial times resemble each other (Lazarus et al. 2018)",
    "ar2": "a t-test under a second-order autoregression (Geer 2016)",
    "iid": "a t-test that takes initial times as independent",
    "bootstrap": "a bootstrap of blocks of initial times",
}


def render(comparison: Comparison, scores: Scores) -> str:
    """The page as HTML; A's scores give names and units."""
    leads, attributes = shown_leads(scores), scores.dataset.attrs
    times = comparison.initial_times
    return filled(
        "comparison_page",
        style=page_style(),
        a=comparison.a,
        b=comparison.b,
        metric=comparison.metric.upper(),
        initial_times=len(times),
        first=_day(times[0]),
        last=_day(times[-1]),
        facts=" · ".join(
            [
                f"Truth: {scores.truth_label}",
                f"Grid: {attributes.get('grid', 'not recorded')}",
                f"Vertical: {attributes.get('vertical', 'not recorded')}",
                f"{scores.convention} conventions",
            ]
        ),
        cautions=cautions(comparison),
        test=how_tested(comparison),
        percent=f"{100 * (1 - comparison.level):g}",
        scorecards=[(region, Markup(scorecard(comparison, scores, leads, region))) for region in comparison.regions],
        curves=[
            (
                region,
                [
                    Markup(charts.difference_chart(comparison, scores, channel, region))
                    for channel in comparison.channels
                ],
            )
            for region in comparison.regions
        ],
    )


def how_tested(comparison: Comparison) -> str:
    """How significance was told, in words."""
    many = (
        "with the false discovery rate over all of them held at that level"
        if comparison.control == "fdr"
        else f"each by itself, so that about {comparison.tests * comparison.level:.0f} of the {comparison.tests} "
        "would be marked by chance alone"
    )
    return f"{METHODS[comparison.method]}, level {comparison.level:g}, {many}"


def cautions(comparison: Comparison) -> list[str]:
    """What a reader must know before believing the comparison."""
    found = []
    for name, alone in ((comparison.a, comparison.only_a), (comparison.b, comparison.only_b)):
        if alone.size:
            found.append(f"{alone.size} initial times of {name} alone do not count, {_day(alone[0])} among them.")
    if not comparison.inference.evenly_spaced:
        found.append("The common initial times have gaps; these make them look less alike than they are.")
    return found + [f"Left out: {words}." for words in comparison.left_out]


def _day(time: np.datetime64) -> str:
    return str(time.astype("datetime64[h]")).replace("T", " ") + " UTC"
