"""A root of `tiny` that grows by nights: what they leave with housekeeping and without, and the time of a night.

At some nights the real chain is timed: the next of the embedded world's, from its plan to its record. The nights
between are made up: segments, forecasts and scores are copies of those of the first timed night, as old as the nights
would be, and the model's nightly scores are those of the last night at other initial times. Housekeeping is real.

The world's own growth is no night's doing, and not in the figures: a real site reads somebody else's store.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from growth_segments import DAY, STAMPS, copies, size

from graphufs.cli.app import take
from graphufs.cli.clean import tidy
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data import merge
from graphufs.data.manifest import SEGMENTS, Manifest
from graphufs.housekeeping.retention import Retention
from graphufs.nightly.scores import NightlyScores
from graphufs.registry import registry
from graphufs.steps import CHAINS, run_step
from graphufs.storage.paths import Paths
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score_state import ScoreState

FIRST = date(2026, 1, 1)
EARLIER = 2
"""Nights before the first that is timed: one scores all that the world has, one compiles for what a night has."""
KEPT_NIGHTS = 62
"""Nights of which everything is there, at most: those of the 30 days that things are kept, and of their months."""
NIGHT_RATIO = 1.5
"""So many times the CPU time of the first may a later night take: the scores it is merged with grow."""
RECORDED = (10, 1440)
"""Initial times of a model, after the nights whose record is timed."""
SPREAD = 0.2
"""Of the numbers of initial times that are made up, about those of a real one: the same ones would take no room."""
RECORD_RATIO = 1.3
"""So many times the CPU time of the first may the record of the last take."""
WIDE = (
    "data.levels=[100, 200, 350, 500, 700, 850, 950]",
    "data.inputs=[pressfc, tmp, ugrd, vgrd, spfh, land_static, dswrf_avetoa]",
    "data.targets=[pressfc, tmp, ugrd, vgrd, spfh]",
    "data.forcings=[dswrf_avetoa]",
    "forecast.lead_time=48h",
)
INITIAL_TIMES = 2
"""A night's, at 00 and 12 UTC."""
LONG_AGO = np.timedelta64(100 * 365, "D")
"""So long before the real nights lie the frames of those that are made up."""


def nights(root: Path, points: Sequence[int]) -> dict[str, Any]:
    """Let a root grow by nights, and time the real ones whose numbers are the `points`, of which the first is 1.

    The bounds that do not hold are in `missed`. Those of files and bytes allow `KEPT_NIGHTS` of all that a night
    leaves, and of each night what stays: its frames, and its part of the model's nightly scores in two versions.
    """
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "cache" / "jax")
    experiment = loading.load(loading.EXPERIMENTS / "tiny.yaml", ["nightly.at_most=40"])
    take(("prepare", "normalize", "train", "forecast", "evaluate", "register"), experiment, root)
    for early in range(EARLIER):
        _night(experiment, root, FIRST + timedelta(days=early))
    model = registry.choose(root, experiment.name)
    assert model is not None
    base = _size(root)
    timing, own = _night(experiment, root, FIRST + timedelta(days=EARLIER))
    a_night = {name: round(_size(root)[name] - base[name], 3) for name in base}
    past = _Past(Paths(own, root), root / model.run_folder)
    stays = past.stays()
    found: list[dict[str, Any]] = [{"night": 1, **timing, "cleaned": _size(root), "uncleaned": _size(root)}]
    print(found[0], flush=True)
    missed: list[str] = []
    for number, point in enumerate(points[1:], 1):
        there = past.count
        past.grow(point - 1 - number)  # the real nights are `number` so far
        uncleaned = _size(root)
        cleaned_away = _clean(root)
        cleaned = _size(root)
        all_kept = {name: round(base[name] + point * a_night[name], 2) for name in base}
        bound = {
            "inodes": base["inodes"] + KEPT_NIGHTS * a_night["inodes"],
            "mib": round(base["mib"] + KEPT_NIGHTS * a_night["mib"] + point * stays, 2),
        }
        timing, _ = _night(experiment, root, FIRST + timedelta(days=EARLIER + number))
        found.append(
            {
                "night": point,
                **timing,
                "made_up": past.count - there,
                "uncleaned": uncleaned,
                "cleaned": cleaned,
                "bound": bound,
                "all_kept": all_kept,
            }
        )
        missed += [f"could not be removed: {line}" for line in cleaned_away]
        missed += [
            f"night {point}: {cleaned[name]} {name} are left, not {bound[name]}"
            for name in bound
            if cleaned[name] > bound[name]
        ]
        if timing["cpu_s"] > NIGHT_RATIO * found[0]["cpu_s"]:
            missed.append(f"night {point} takes {timing['cpu_s']} CPU s, the first took {found[0]['cpu_s']}")
        print(found[-1], flush=True)
    return {
        "before_any_night": base,
        "a_night_adds": a_night,
        "mib_that_stay_of_a_night": stays,
        "points": found,
        "missed": missed,
    }


def _night(experiment: Experiment, root: Path, night: date) -> tuple[dict[str, float], Experiment]:
    """A real night; its times [s], and the experiment that was planned."""
    began, wall = time.process_time(), time.perf_counter()
    results = take(CHAINS["nightly"], experiment, root, request=loading.request({"night": night}))
    if results[-1]["step"] != "record_nightly":
        raise SystemExit(f"the night of {night} found nothing to do: {results[-1].get('message')}")
    times = {"cpu_s": round(time.process_time() - began, 2), "wall_s": round(time.perf_counter() - wall, 1)}
    plan = next(one for one in results if one["step"] == "plan_nightly")
    if plan["remaining"]:
        raise SystemExit(
            f"the night of {night} leaves {plan['remaining']} initial times to others, which are not timed"
        )
    return times, loading.parse(plan["experiment"], origin="the plan")


def _size(root: Path) -> dict[str, Any]:
    """Files, folders and MiB of a root without its world."""
    whole = size(root)
    world = size(root / "worlds")
    return {"inodes": whole["inodes"] - world["inodes"], "mib": round(whole["mib"] - world["mib"], 2)}


def _clean(root: Path) -> list[str]:
    """Clean as of today, and what merging leaves for a month, too; what could not be removed."""
    found = tidy(root, Retention(), yes=True)
    for folder in (root / "data").iterdir():
        merge.remove_expired(folder, time.time() + 31 * DAY)
    return [str(line) for line in found["failed"]]


class _Past:
    """The nights that are made up: copies of one real night, whose `paths` are these."""

    def __init__(self, paths: Paths, run: Path) -> None:
        self.paths, self.count = paths, 0
        (self.scores,) = (NightlyScores(folder) for folder in (run / "nightly").iterdir())
        manifest = Manifest.read(paths.data)
        assert manifest is not None
        self.stamps = manifest.segments[-1].stamps
        if self.stamps.size != STAMPS:
            raise SystemExit(f"the night prepared {self.stamps.size} stamps, not the {STAMPS} of a day")
        self.segment = paths.root.with_name(f"{paths.root.name}-segment")  # its own may be merged away
        shutil.copytree(paths.data / SEGMENTS / manifest.segments[-1].name, self.segment)

    def stays(self) -> float:
        """What stays of a night [MiB]: its segment, and its part of the scores in two versions, not compressed."""
        scores = self._scores()
        ours = scores.dataset.nbytes / scores.initial_times.size * INITIAL_TIMES
        return round(size(self.segment)["mib"] + 2 * ours / 2**20, 4)

    def grow(self, count: int) -> None:
        """Have so many nights in all, as old as if the last had been yesterday."""
        for number in range(count):
            forecasts = self.paths.forecasts.with_name(f"{number:012x}.zarr")
            scores = self.paths.scores.with_name(f"{number:012x}.zarr")
            if number >= self.count:
                self._copy(forecasts, scores)
            for path in (forecasts, scores, scores.with_suffix(".csv")):
                _age(path, count - number)
        manifest = Manifest.read(self.paths.data)
        assert manifest is not None
        days = [np.timedelta64(number, "D") for number in range(self.count, count)]
        grown = copies(manifest, self.paths.data, self.segment, [self.stamps - LONG_AGO + day for day in days])
        grown.write(self.paths.data)
        _lengthen(self.scores, INITIAL_TIMES * (count - self.count))
        self.count = count

    def _copy(self, forecasts: Path, scores: Path) -> None:
        shutil.copytree(self.paths.forecasts, forecasts)
        shutil.copytree(self.paths.scores, scores)
        shutil.copy2(self.paths.scores.with_suffix(".csv"), scores.with_suffix(".csv"))
        for file in (".zattrs", ".zmetadata"):
            text = (scores / file).read_text()
            (scores / file).write_text(text.replace(self.paths.hashes["forecasts"], forecasts.stem))

    def _scores(self) -> Scores:
        found = self.scores.open()
        assert found is not None
        return found


def records(root: Path, counts: Sequence[int] = RECORDED) -> dict[str, Any]:
    """Time the record of a night that brings a model's initial times to each of `counts`, ascending.

    The model is as wide as those at work: 29 channels at eight leads.
    """
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "cache" / "jax")
    experiment = loading.load(loading.EXPERIMENTS / "tiny.yaml", ["nightly.at_most=40", *WIDE])
    take(("prepare", "normalize", "train", "forecast", "evaluate", "register"), experiment, root)
    _night(experiment, root, FIRST)
    (place,) = map(NightlyScores, root.glob("runs/*/*/nightly/*"))
    found: list[dict[str, Any]] = []
    for number, count in enumerate(counts, 1):
        night = loading.request({"night": FIRST + timedelta(days=number)})
        results = take(CHAINS["nightly"][:-1], experiment, root, request=night)
        own = loading.parse(next(one for one in results if one["step"] == "plan_nightly")["experiment"], origin="plan")
        scores = place.open()
        assert scores is not None
        _lengthen(place, count - INITIAL_TIMES - scores.initial_times.size, SPREAD)
        began = time.process_time()
        recorded = run_step("record_nightly", own, root)
        if recorded["added"] != INITIAL_TIMES:
            raise SystemExit(f"the night recorded {recorded['added']} initial times, not {INITIAL_TIMES}")
        seconds = round(time.process_time() - began, 2)
        sizes = size(place.store.resolve())["mib"], place.report.stat().st_size / 2**20
        found.append(
            {"initial_times": count, "cpu_s": seconds, "store_mib": sizes[0], "report_mib": round(sizes[1], 2)}
        )
        print(found[-1], flush=True)
    ratio = round(found[-1]["cpu_s"] / found[0]["cpu_s"], 2)
    missed = [f"a record takes {ratio} times what the first did, not {RECORD_RATIO}"] if ratio > RECORD_RATIO else []
    return {"points": found, "ratio": ratio, "missed": missed}


def _lengthen(place: NightlyScores, count: int, spread: float = 0.0) -> None:
    """Give a model's scores so many initial times more, before all others, whose scores are like those of the last."""
    so_far = place.open()
    assert so_far is not None

    def longer(state: ScoreState) -> ScoreState:
        averages = state.select(state.initial_times[-1:]).stacked()[0]
        grown, random = state.copy(), np.random.default_rng(0)
        for number in range(1, count + 1):
            varied = averages * random.uniform(1 - spread, 1 + spread, averages.shape)
            grown.update(state.initial_times[0] - number * np.timedelta64(12, "h"), varied)
        return grown

    states = {name: longer(state) for name, state in so_far.states().items()}
    attributes = {key: value for key, value in so_far.dataset.attrs.items() if key not in ("initial_times", "sha256")}
    variables = {str(name): so_far.dataset[name].attrs for name in so_far.dataset.data_vars}
    place.write(Scores.from_states(states, attributes, variables, so_far.diagnostics, part=so_far.part))


def _age(path: Path, days: float) -> None:
    """Have a file, or a folder with all that it has, changed last so long ago; none is none."""
    then = time.time() - days * DAY
    for place, _, names in os.walk(path, topdown=False):
        for one in (*(os.path.join(place, name) for name in names), place):
            os.utime(one, (then, then))
    if path.is_file():
        os.utime(path, (then, then))
