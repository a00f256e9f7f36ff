"""The step `record_nightly`: the scores of a night join those of the nights before, and the report follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from graphufs.config.experiment import Experiment
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.forecast.step import finished_checkpoint
from graphufs.nightly.initial_times import nightly_times
from graphufs.nightly.scores import NightlyScores
from graphufs.registry import registry
from graphufs.registry.registry import RegisteredModel, model_id
from graphufs.replay.times import listing, text
from graphufs.report.step import write_nightly
from graphufs.steps import Event, Progress, ShouldStop
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.storage.provenance import provenance
from graphufs.weatherbench.one_truth import days_without_data, independent
from graphufs.weatherbench.references import open_climatology
from graphufs.weatherbench.results import parts
from graphufs.weatherbench.results.growing import can_grow, grown
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import small_table
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.histograms import Histograms

SAME = ("grid", "vertical", "climatology_period", "climatology_window_days", "convention", "truth", "members")
"""What scores must share for their means to be of one kind; ScoreState looks at leads, channels and statistics."""
LASTING = (*SAME, "truth_name", "not_scored", "level_units", "native_levels", "climatology", "climatology_frames")
"""Attributes that do not depend on the initial times."""


def run(experiment: Experiment, root: Path, *, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Merge the experiment's scores into those of its model; see graphufs.steps.Run.

    Raises
    ------
    UserError
        If the model is not registered, there are no scores, they are of initial times no night has, or they do not fit
        those of the nights before.
    Stopped
        If `should_stop()` turned true while another process wrote the same scores.
    """
    paths = Paths(experiment, root)
    tonight = Scores.open(paths.scores)
    model = _model(paths)
    times = np.array(nightly_times(experiment), "datetime64[ns]")
    strange = np.setdiff1d(tonight.initial_times, times)
    if strange.size:
        raise UserError(
            f"the scores at {paths.scores} are of initial times that no night has: {listing(strange)}. Nights take "
            "those of the evaluation period and after it that the model has not seen; use the experiment that "
            "`graphufs plan-nightly` gives"
        )
    place = NightlyScores(paths.nightly(model.checkpoint))

    def waiting() -> None:
        progress(Event("waiting for another process that records a night of the same model", 0, 1))

    with locked(place.folder, should_stop=should_stop, waiting=waiting):
        before = place.open()
        merged = merge(before, tonight)
        known = {**place.holes(), **tonight.dataset.attrs["excluded_initial_times"]}
        merged = finished(merged, experiment, paths, times, known)
        added = len(merged.initial_times) - (0 if before is None else len(before.initial_times))
        holes: dict[str, str] = merged.dataset.attrs["holes"]
        if before is None or added or before.dataset.attrs["holes"] != holes:
            place.write(merged)
        written = write_nightly(place.report, experiment, paths, merged)
        found = {
            "model": model.id,
            "initial_times": len(merged.initial_times),
            "latest": small_table(merged),
            "holes": [{"initial_time": time, "why": why} for time, why in holes.items()],
            "store": place.store.relative_to(paths.root).as_posix(),
            "report": place.report.relative_to(paths.root).as_posix(),
        }
        place.note_latest(found)
    return {"status": "completed" if added or written else "unchanged", "added": added, **found}


def _model(paths: Paths) -> RegisteredModel:
    """The registered model that the experiment's forecasts are made with."""
    path = finished_checkpoint(paths)
    wanted = model_id(paths.experiment.name, paths.run.name, checkpoint.read_meta(path)["update"])
    try:
        return registry.get(paths.root, wanted)
    except UserError as error:
        raise UserError(f"{error}; run `graphufs register` with this experiment first") from None


def merge(before: Scores | None, tonight: Scores) -> Scores:
    """The scores over the initial times of both.

    Raises
    ------
    UserError
        If they are not of one kind, or an initial time has another result than before.
    """
    states = tonight.states()
    later = before is not None and can_grow(before, states)
    if before is not None:
        for name in SAME:
            old, new = (scores.dataset.attrs.get(name) for scores in (before, tonight))
            if old != new and name in before.dataset.attrs:
                raise UserError(
                    f"these scores do not fit those of the nights before: their {name} is {new!r} instead of {old!r}; "
                    "use the experiment that `graphufs plan-nightly` gives"
                )
        if {*before.forecasts} != {*states}:
            raise UserError(
                f"these scores are of {', '.join(states)}, those of the nights before of "
                f"{', '.join(before.forecasts)}; both must compare the same forecasts"
            )
        if not later:
            earlier = before.states()
            states = {name: earlier[name].merge(state) for name, state in states.items()}
    diagnostics, histograms = tonight.diagnostics, tonight.histograms
    if before is not None:
        diagnostics = _together(Diagnostics, before.diagnostics, tonight.diagnostics)
        histograms = _together(Histograms, before.histograms, tonight.histograms)
    # of single forecasts no members are told
    lasting = {name: tonight.dataset.attrs[name] for name in LASTING if name in tonight.dataset.attrs}
    attributes = {str(name): tonight.dataset[name].attrs for name in tonight.dataset.data_vars}
    if before is not None and later:
        return grown(before, states, lasting, attributes, diagnostics, histograms)
    return Scores.from_states(states, lasting, attributes, diagnostics, histograms, part=parts.LENGTH)


def _together(
    kind: type[Diagnostics] | type[Histograms], before: xr.Dataset | None, tonight: xr.Dataset | None
) -> xr.Dataset | None:
    """Maps and spectra, or histograms, over the initial times of both; None where a night kept none."""
    if before is None or tonight is None:
        return None
    earlier: Any = kind.restore(before)
    new: Any = kind.restore(tonight)
    if np.isin(new.initial_times, earlier.initial_times).any():
        return before  # a night that is recorded a second time; sums could not tell the two apart
    made: xr.Dataset = earlier.merge(new).dataset()
    return made


def finished(scores: Scores, experiment: Experiment, paths: Paths, times: np.ndarray, known: dict[str, str]) -> Scores:
    """The scores with the attributes that depend on the initial times; `times` [time] are of all nights.

    `holes` holds, by initial time, why there is no score between the first and the last that there is one for.
    """
    there = scores.initial_times
    lacking = np.setdiff1d(times[times < there[-1]], there)
    holes = {text(time): known.get(text(time), "not scored yet") for time in lacking}
    climatology = open_climatology(scores, experiment, paths)
    scores.dataset.attrs |= {
        "independent_initial_times": independent(experiment, there),
        "excluded_initial_times": holes,
        "holes": holes,
        "climatology_days_without_data": days_without_data(climatology, there, scores.leads),
        "hashes": paths.hashes,
        "provenance": provenance(),
    }
    return scores
