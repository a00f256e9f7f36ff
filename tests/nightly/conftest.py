"""Nights with real scores and no forecasting: each takes its part of those of tiny's own evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.config.base import format_time
from graphufs.config.experiment import Experiment
from graphufs.nightly.scores import NightlyScores
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.weatherbench.results.scores import Scores

Night = Callable[[Path, Sequence[int]], Experiment]


def at(experiment: Experiment, initial_times: Sequence[datetime]) -> Experiment:
    """The experiment with these initial times alone."""
    times = ", ".join(format_time(time) for time in initial_times)
    return loading.parse(loading.dump(experiment), [f"forecast.initial_times=[{times}]"])


def store_of(experiment: Experiment, root: Path) -> NightlyScores:
    return NightlyScores(Paths(experiment, root).nightly("00000016"))


@pytest.fixture(scope="session")
def registered_root(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment, finished_root: Path) -> Path:
    """A root in which tiny's model is registered. Not to be written to: take `copy_of_root`."""
    root = tmp_path_factory.mktemp("registered") / "root"
    shutil.copytree(finished_root, root)
    run_step("register", tiny, root)
    return root


@pytest.fixture
def night(tiny: Experiment) -> Night:
    """A function that puts the scores of some of tiny's ten initial times where a night leaves them."""

    def make(root: Path, chosen: Sequence[int]) -> Experiment:
        whole = Scores.open(Paths(tiny, root).scores)
        times = [tiny.initial_times[position] for position in chosen]
        states = {name: state.select(np.array(times, "datetime64[ns]")) for name, state in whole.states().items()}
        own = {key: value for key, value in whole.dataset.attrs.items() if key != "initial_times"}
        variables = {str(name): whole.dataset[name].attrs for name in whole.dataset.data_vars}
        experiment = at(tiny, times)
        own["hashes"] = Paths(experiment, root).hashes
        Scores.from_states(states, own, variables).write(Paths(experiment, root).scores)
        return experiment

    return make
