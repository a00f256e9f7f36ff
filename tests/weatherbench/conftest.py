"""Prepared data and forecasts shared by the tests of scores and of the report."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from graphufs.config.experiment import Experiment
from graphufs.steps import never_stop, no_progress
from graphufs.storage.paths import Paths
from graphufs.weatherbench import evaluate
from graphufs.weatherbench.results.scores import Scores
from tests.support import idealised

Made = tuple[Experiment, Path]


@functools.cache  # two folders of tests use it, each with fixtures of its own
def _prepared(folder: Path) -> Made:
    experiment, root = idealised.prepared_root(folder)
    idealised.write_forecasts(experiment, root)
    return experiment, root


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An experiment and a root with prepared data and forecasts."""
    return _prepared(tmp_path_factory.getbasetemp() / "idealised")


@pytest.fixture(scope="session")
def scored(prepared: Made) -> tuple[Experiment, Path, Scores]:
    """The same with the forecasts scored."""
    experiment, root = prepared
    evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    return experiment, root, Scores.open(Paths(experiment, root).scores)
