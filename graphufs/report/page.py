"""The page: everything about one experiment's scores put into the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from graphufs.config import loading
from graphufs.config.base import Period
from graphufs.config.data import EMBEDDED, World
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.grid.grid import Grid
from graphufs.replay.times import listing, wanted_stamps
from graphufs.report import charts, summary
from graphufs.report.ensemble.part import ensemble_part
from graphufs.report.ensemble.plumes import Plumes
from graphufs.report.maps import Case, case_map, error_maps
from graphufs.report.nights import nights
from graphufs.report.spectra import spectra_chart
from graphufs.report.svg import page_style
from graphufs.report.templates import filled
from graphufs.report.training_log import TrainingLog
from graphufs.report.uncertainty import evidence
from graphufs.vocabulary.labels import number
from graphufs.weatherbench.results.display import lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import shown_leads
from graphufs.weatherbench.scoring.diagnostics import Diagnostics

SEASON, MOST_OF_A_YEAR = 92, 300
"""Days of training: of one season at most, and with about all seasons at least."""


@dataclass(frozen=True)
class Content:
    """What the page is made of. `case` and `log` may be missing; the page then says so."""

    experiment: Experiment
    scores: Scores
    prepared: PreparedData
    grid: Grid
    case: Case | None
    case_lead: np.timedelta64
    log: TrainingLog | None
    metrics_path: Path
    land: np.ndarray | None
    plumes: Plumes | None = None
    """Members at points, of an ensemble."""


def render(content: Content, key: str) -> str:
    """The page as HTML; `key` is put into its head and says what it was made from."""
    experiment, scores = content.experiment, content.scores
    attributes = scores.dataset.attrs
    maps: list[tuple[str, Markup]] = []
    if content.case is not None:
        for position, channel in enumerate(content.case.channels):
            figure = case_map(scores, content.case, position, content.grid, content.land)
            maps.append((scores.channel_name(channel), Markup(figure)))
    from_replay = scores.truth_name == "replay"
    no_maps = "The forecasts are no longer there" if from_replay else "Maps are drawn against Replay alone"
    sure = evidence(scores)
    diagnostics = None if scores.diagnostics is None else Diagnostics.restore(scores.diagnostics)
    return filled(
        "page",
        key=key,
        style=page_style(),
        name=experiment.name,
        description=experiment.description,
        subtitle=_subtitle(content),
        nights=nights(scores, content.case_lead),
        embedded=experiment.data.source.url == EMBEDDED,
        cautions=_cautions(content),
        tiles=summary.tiles(scores),
        climatology=_words(attributes["climatology_period"]),
        legend=charts.legend(scores),
        sure=sure,
        rmse_figures=[Markup(charts.rmse_chart(scores, channel, sure.bands)) for channel in scores.channels],
        ensemble=ensemble_part(scores, content.case_lead, _land(content, diagnostics), content.plumes),
        spectra_figures=_spectra(scores, diagnostics),
        error_maps=_error_maps(content, diagnostics),
        diagnosed=0 if diagnostics is None else len(diagnostics.initial_times),
        facts=_facts(content),
        acc_figures=[Markup(charts.acc_chart(scores, channel)) for channel in scores.channels],
        activity_figure=Markup(charts.activity_chart(scores, scores.channels)),
        leads=[lead_name(lead) for lead in shown_leads(scores)],
        rows=summary.rows(scores),
        maps=maps,
        no_maps=f"{no_maps}, so there are no maps. The scores above do not depend on them.",
        against_era5=scores.truth_name == "era5",
        case_time="" if content.case is None else _minute(content.case.initial_time),
        case_lead=lead_name(content.case_lead),
        initial_times=len(scores.initial_times),
        land=content.land is not None,
        loss_figure=None if content.log is None else Markup(charts.loss_chart(content.log)),
        training=_training(content),
        metrics_path=content.metrics_path,
        provenance=_provenance(content),
        configuration=loading.dump(experiment),
        version=attributes["provenance"]["versions"].get("graphufs", ""),
    )


def _spectra(scores: Scores, diagnostics: Diagnostics | None) -> list[Markup]:
    if diagnostics is None:
        return []
    figures = (spectra_chart(scores, diagnostics, position) for position in range(len(diagnostics.channels)))
    return [Markup(figure) for figure in figures if figure is not None]


def _error_maps(content: Content, diagnostics: Diagnostics | None) -> list[tuple[str, Markup]]:
    if diagnostics is None:
        return []
    land = _land(content, diagnostics)
    return [
        (content.scores.channel_name(channel), Markup(error_maps(content.scores, diagnostics, position, land)))
        for position, channel in enumerate(diagnostics.channels)
    ]


def _land(content: Content, diagnostics: Diagnostics | None) -> np.ndarray | None:
    """The land fraction [lat, lon] as maps of the scores lie; None where it lies on another grid."""
    if diagnostics is None or content.land is None or not diagnostics.grid.agrees(content.grid):
        return None
    return content.land[diagnostics.grid.orientation(content.grid, "the land mask")]


def _facts(content: Content) -> str:
    """What the numbers depend on, in a line."""
    scores, embedded = content.scores, content.experiment.data.source.url == EMBEDDED
    attributes = scores.dataset.attrs
    return " · ".join(
        [
            f"Truth: {'the embedded world' if embedded else scores.truth_label}",
            f"grid {attributes['grid']}",
            str(attributes["vertical"]),
            f"{scores.convention} conventions",
        ]
    )


def _minute(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]")).replace("T", " ")


def _subtitle(content: Content) -> str:
    grid = content.grid.shape
    source = content.experiment.data.source.url
    return (
        f"Truth: {'the embedded idealised world' if source == EMBEDDED else f'the fields of {source}'} · "
        f"{grid[1]} × {grid[0]} grid points · {len(content.scores.channels)} targets · "
        f"time step {content.experiment.data.time_step} h"
    )


def _cautions(content: Content) -> list[str]:
    """What a reader must know before believing the scores."""
    attributes, experiment = content.scores.dataset.attrs, content.experiment
    cautions = []
    days = experiment.data.training.count(experiment.data.time_step) * experiment.data.time_step // 24
    if days < MOST_OF_A_YEAR and experiment.data.source.url != EMBEDDED:
        what = "of one season" if days <= SEASON else "and no whole year"
        cautions.append(
            f"Trained on {days} days {what}, {_words(experiment.data.training)}: the emulator has seen no other "
            "weather. What it reaches near them says little of other times of the year."
        )
    evaluation, periods = experiment.data.evaluation, experiment.seen_periods | experiment.periods
    if overlapping := [name for name in experiment.data.allow_overlap if _overlaps(periods.get(name), evaluation)]:
        names = " and ".join(overlapping)
        cautions.append(
            f"The {names} period overlaps the evaluation period, as the experiment allows: the scores are not "
            "independent."
        )
    dependent = len(content.scores.initial_times) - attributes["independent_initial_times"]
    if dependent:
        cautions.append(
            f"{dependent} of the {len(content.scores.initial_times)} forecasts use or verify on times of the training "
            "or validation period."
        )
    if excluded := attributes["excluded_initial_times"]:
        times = ", ".join(list(excluded)[:5]) + (f" and {len(excluded) - 5} more" if len(excluded) > 5 else "")
        cautions.append(
            f"Initial times left out for want of a forecast or of a usable truth, {len(excluded)}: {times}."
        )
    if days := attributes["climatology_days_without_data"]:
        cautions.append(
            f"For {days} of the scored days of the year the climatology has no data within its window; the nearest "
            "day's mean stands in. Scores that involve the climatology mean little."
        )
    channels = content.scores.channels
    if any(not np.isfinite(content.scores.values("rmse", "emulator", channel)).all() for channel in channels):
        cautions.append("Some forecasts are not finite: the emulator is unstable at the leads without a score.")
    return cautions


def _overlaps(period: Period | None, evaluation: Period) -> bool:
    return period is not None and period.overlaps(evaluation)


def _training(content: Content) -> str:
    settings, log = content.experiment.training, content.log
    if not settings.stages:
        return f"Nothing was trained here: weights and statistics are those of {settings.init_from}, as they are."
    if log is None:
        return ""
    parts = [f"{log.updates[-1]:,} update{'s' if log.updates[-1] > 1 else ''}"]
    if log.validation_losses.size:
        parts.append(f"final validation loss {number(float(log.validation_losses[-1]))}")
    if log.forecast_scores.size:
        best = int(log.forecast_scores.argmin())
        parts.append(
            f"validation forecasts at best {number(float(log.forecast_scores[best]))} of persistence's error, after "
            f"{log.forecast_updates[best]:,} updates"
        )
    if log.speed is not None:
        parts.append(f"{number(log.speed)} samples a second")
    if log.waiting is not None:
        parts.append(f"{log.waiting:.1%} of the time waiting for data")
    return ", ".join(parts) + "."


def _world(world: World) -> str:
    random = world.stochastic
    perturbed = f", physics perturbed by {random.amplitude:g}, seed {random.seed}" if random.amplitude else ""
    return f"the embedded idealised world, seed {world.seed}{perturbed}"


def _provenance(content: Content) -> list[tuple[str, str]]:
    experiment, attributes = content.experiment, content.scores.dataset.attrs
    data, times = experiment.data, content.scores.initial_times
    made = attributes["provenance"]
    levels = ", ".join(f"{wanted} → {native:.6g}" for wanted, native in attributes["native_levels"].items() if native)
    return [
        ("Source", _world(data.source.world) if data.source.url == EMBEDDED else data.source.url),
        ("Training period", _words(data.training)),
        ("Validation period", _words(data.validation)),
        ("Forecast period", _words(experiment.forecast_period)),
        ("Statistics", _statistics(experiment)),
        (
            "Climatology",
            f"{_words(attributes['climatology_period'])}, {attributes['climatology_frames']} frames, explicit with a "
            f"triangular window of {attributes['climatology_window_days']} days",
        ),
        (
            "Initial times",
            f"{len(times)}, every {experiment.forecast.every} h from {_minute(times[0])} to {_minute(times[-1])}; "
            f"{attributes['independent_initial_times']} of them outside training and validation",
        ),
        ("Grid", str(attributes["grid"])),
        ("Vertical", str(attributes["vertical"]) + (f" ({attributes['level_units']}: {levels})" if levels else "")),
        ("Metrics", f"{attributes['convention']} conventions, area-weighted over the globe"),
        *_gaps(content.prepared, wanted_stamps(experiment)),
        ("Hashes", ", ".join(f"{name} {value}" for name, value in attributes["hashes"].items())),
        ("Scored", f"{made['created']}, code {made.get('commit') or 'outside a checkout'}, Python {made['python']}"),
        ("Versions", ", ".join(f"{name} {value}" for name, value in made["versions"].items())),
    ]


def _statistics(experiment: Experiment) -> str:
    if not experiment.training.stages:
        return f"those of {experiment.training.init_from}"
    if experiment.normalization.url:
        return f"read from {experiment.normalization.url}"
    return f"{_words(experiment.statistics_period)}, weights {experiment.normalization.weights}"


def _words(period: Period | str) -> str:
    return str(period).replace("..", " to ")


def _gaps(prepared: PreparedData, wanted: np.ndarray) -> Sequence[tuple[str, str]]:
    """Stamps of the experiment's periods that are missing from the source, and those left out for NaN."""
    missing = np.intersect1d(prepared.missing, wanted)
    flawed = np.intersect1d(prepared.stamps[~prepared.valid], wanted)
    return [
        ("Missing stamps", f"{missing.size} of {wanted.size}" + (f": {listing(missing)}" if missing.size else "")),
        ("Stamps with NaN", f"{flawed.size} of {wanted.size}" + (f": {listing(flawed)}" if flawed.size else "")),
    ]
