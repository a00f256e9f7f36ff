"""Where things lie below the root folder, each named by the hash of what determines its content.

Which keys are part of a hash is declared at their fields in `graphufs.config`. Things that grow with time (prepared
data, statistics) are hashed without their period. The numbers of `graphufs.storage.formats` are hashed, too.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from graphufs.config import loading
from graphufs.config.base import Period, format_time
from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.config.identity import identity
from graphufs.masking import place
from graphufs.storage.formats import FORMATS
from graphufs.vocabulary.variables import DERIVED_FORCINGS

PUBLISHED = "published"
"""The folder of the root with forecasts for other tools."""


def root_folder(given: Path | None = None) -> Path:
    """The root folder: one given, $GRAPHUFS_ROOT or ./graphufs-root."""
    return (given or Path(os.environ.get("GRAPHUFS_ROOT", "graphufs-root"))).expanduser().absolute()


def digest(content: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Paths:
    """The folders and files of one experiment below one root.

    A run or scores that lie under the name version 0.1.0 gave them keep it: `former` content is hashed as there.
    """

    def __init__(self, experiment: Experiment, root: Path) -> None:
        self.experiment = experiment
        self.root = Path(root).expanduser().absolute()

    def _source(self) -> dict[str, Any]:
        source = identity(self.experiment.data.source)
        world = source.pop("world")
        if source["url"] == EMBEDDED:
            source |= {"world": world, "world_format": FORMATS["world"]}
        return source

    def _data(self) -> dict[str, Any]:
        data = self.experiment.data
        variables = set(data.stored_variables)
        if self.experiment.normalization.weights == "volume" and self.experiment.normalization.url is None:
            variables.add(thickness_variable(data.source.component))
        return {
            "format": FORMATS["data"],
            "source": self._source(),
            "variables": sorted(variables),
            "levels": sorted(data.levels),
            "level_match": data.level_match,
            **({"interfaces": data.interfaces} if data.interfaces else {}),
            **({"storage": data.storage} if data.storage != "float32" else {}),
            "time_step": data.time_step,
            # experiments whose stamps lie on the same hours share their data
            "phase": (data.training.start - datetime(1970, 1, 1)) // timedelta(hours=1) % data.time_step,
        }

    def _statistics(self) -> dict[str, Any]:
        normalization = self.experiment.normalization
        return {
            "format": FORMATS["statistics"],
            "data": self._data(),
            "weights": normalization.weights,
            "url": None if normalization.url is None else place(normalization.url),
            "derived": sorted(set(DERIVED_FORCINGS) & {*self.experiment.data.inputs, *self.experiment.data.forcings}),
            "transforms": identity(self.experiment.data)["transforms"],
            "tisr_period": self.experiment.data.tisr_period,
        }

    def _climatology(self) -> dict[str, Any]:
        return {
            "format": FORMATS["climatology"],
            "data": self._data(),
            "variables": sorted(self.experiment.data.targets),
            "period": str(self.experiment.climatology_period),
            "window": self.experiment.evaluation.climatology_window,
        }

    def _run(self, *, former: bool = False) -> dict[str, Any]:
        sections = ("data", "normalization", "model", "training")
        keys = {name: identity(getattr(self.experiment, name), former=former) for name in sections}
        start = Path(keys["training"]["init_from"] or "").parts[-5:]
        if not former and start[:1] == ("runs",) and start[3:4] == ("checkpoints",):
            keys["training"]["init_from"] = "/".join(start)  # below whatever root: its run's hash says what it is
        return {
            "format": FORMATS["run"],
            "source": self._source(),
            "statistics_period": str(self.experiment.statistics_period),
            **keys,
        }

    def _scores(self, forecasts: str, *, former: bool = False) -> dict[str, Any]:
        return {
            "format": FORMATS["scores"],
            "forecasts": forecasts,
            "climatology": str(self.experiment.climatology_period),
            "window": self.experiment.evaluation.climatology_window,
            **identity(self.experiment.evaluation, former=former),
        }

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The hash of each product, by name."""
        experiment = self.experiment
        runs = self.root / "runs" / experiment.name
        run = digest(self._run(former=True))
        if not (runs / run).exists():
            run = digest(self._run())
        forecasts = digest(
            {
                "format": FORMATS["forecasts"],
                "run": run,
                "initial_times": [format_time(time) for time in experiment.initial_times],
                "lead_time": experiment.forecast.lead_time,
                "batch_size": experiment.forecast.batch_size,
                "checkpoint": experiment.forecast.checkpoint,
                **identity_of_members(experiment),
            }
        )
        scores = digest(self._scores(forecasts, former=True))
        if not (runs / run / "scores" / f"{scores}.zarr").exists():
            scores = digest(self._scores(forecasts))
        return {
            "world": digest({"format": FORMATS["world"], **identity(experiment.data.source.world)}),
            "data": digest(self._data()),
            "statistics": digest(self._statistics()),
            "climatology": digest(self._climatology()),
            "run": run,
            "forecasts": forecasts,
            "scores": scores,
        }

    @property
    def world(self) -> Path:
        """The folder of the embedded world's store."""
        return self.root / "worlds" / self.hashes["world"]

    @property
    def data(self) -> Path:
        """The folder of the prepared data."""
        return self.root / "data" / self.hashes["data"]

    @property
    def moments(self) -> Path:
        """The folder of the statistics' mergeable moments, a file per segment of time."""
        return self.root / "statistics" / self.hashes["statistics"] / "moments"

    def statistics(self, period: Period | None = None) -> Path:
        """The folder of the three statistics stores of a period."""
        period = period or self.experiment.statistics_period
        return self.root / "statistics" / self.hashes["statistics"] / str(period)

    @property
    def climatology(self) -> Path:
        """The folder of the climatology of the targets, and of what else is learnt from it."""
        return self.root / "climatology" / self.hashes["climatology"]

    @property
    def run(self) -> Path:
        """The run folder: training's results and all that is made from them."""
        return self.root / "runs" / self.experiment.name / self.hashes["run"]

    @property
    def initial_weights(self) -> Path | None:
        """What training.init_from names; None where it names nothing.

        A path that begins with `runs` lies below the root, so that one experiment may go on from another's checkpoint.
        Its run is found under another experiment's name, too, as its hash says what it is; and one of a shipped
        experiment under the hash that version 0.1.0 gave it.
        """
        given = self.experiment.training.init_from
        if given is None:
            return None
        parts = Path(given).parts
        if parts[:1] != ("runs",):
            return Path(given)
        if len(parts) > 3 and not self.root.joinpath(*parts[:3]).exists():
            named = [parts[2]]
            if parts[1] in loading.shipped():
                other = Paths(loading.load(loading.EXPERIMENTS / f"{parts[1]}.yaml"), self.root)
                if digest(other._run()) == parts[2]:
                    named.append(digest(other._run(former=True)))
            for run in (run for name in named for run in sorted((self.root / "runs").glob(f"*/{name}"))):
                return run.joinpath(*parts[3:])
        return self.root / given

    @property
    def checkpoints(self) -> Path:
        """The folder of the training's checkpoints."""
        return self.run / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The training's metrics, a JSON object a line."""
        return self.run / "metrics.jsonl"

    @property
    def forecasts(self) -> Path:
        """The forecasts, in WeatherBench2's layout."""
        return self.run / "forecasts" / f"{self.hashes['forecasts']}.zarr"

    def published(self, checkpoint: str) -> Path:
        """The folder of what is published of one of the run's checkpoints, named as its model."""
        return self.root / PUBLISHED / f"{self.experiment.name}-{self.hashes['run']}-{int(checkpoint)}"

    @property
    def scores(self) -> Path:
        """The scores of the forecasts and of the baselines, by initial time."""
        return self.run / "scores" / f"{self.hashes['scores']}.zarr"

    def scores_against(self, truth: str) -> Path:
        """The scores against one of the experiment's truths; those against the first are `scores`."""
        first = self.experiment.evaluation.truths[0]
        return self.scores if truth == first else self.scores.with_name(f"{self.hashes['scores']}-{truth}.zarr")

    def nightly(self, checkpoint: str) -> Path:
        """The folder of the nightly scores of one of the run's checkpoints, and of the report on them."""
        return self.run / "nightly" / checkpoint

    @property
    def report(self) -> Path:
        """The HTML report on the scores."""
        return self.run / "reports" / f"{self.hashes['scores']}.html"


def identity_of_members(experiment: Experiment) -> dict[str, Any]:
    """What the hash of forecasts has of members; nothing where there is one, as before there were any."""
    wanted = experiment.forecast
    found: dict[str, Any] = {"members": wanted.members} if wanted.members > 1 else {}
    found |= {"checkpoints": list(wanted.checkpoints)} if wanted.checkpoints else {}
    return found | ({} if wanted.keep_members else {"keep_members": False})


def thickness_variable(component: str) -> str:
    """The layer thickness in a component's store: delz [m, negative] of fv3, ho [m] of mom6."""
    return {"fv3": "delz", "mom6": "ho"}[component]
