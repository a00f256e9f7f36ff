"""The tiny experiment, run once a session, for every test that needs real data or a trained emulator."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from graphufs import configuration
from graphufs.experiment import Experiment
from graphufs.steps import CHAIN, run_step

# The tests compile the same few programs again and again; JAX reads these when it is first imported, here, in the
# processes the tests start, and in pytest-xdist's workers, which share the first process's folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="graphufs-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """The experiment of experiments/tiny.yaml."""
    return configuration.load(TINY)


@pytest.fixture(scope="session")
def normalized_root(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment) -> Path:
    """A root in which tiny's data and statistics are there. Not to be written to: take `copy_of_root`."""
    root = tmp_path_factory.mktemp("normalized")
    for step in ("prepare", "normalize"):
        assert run_step(step, tiny, root)["status"] == "completed"
    return root


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment, normalized_root: Path) -> Path:
    """A root in which all steps of tiny are done. Not to be written to: take `copy_of_root`."""
    root = tmp_path_factory.mktemp("finished") / "root"
    shutil.copytree(normalized_root, root)
    for step in CHAIN:
        run_step(step, tiny, root)
    return root


@pytest.fixture
def copy_of_root(tmp_path: Path) -> Callable[[Path], Path]:
    """A function that copies a root for a test to work in."""

    def copy(root: Path) -> Path:
        return Path(shutil.copytree(root, tmp_path / "copy"))

    return copy


LONGEST = (
    "test_end_to_end",
    "test_p0",
    "test_devices",
    "test_jobs",
    "test_resume",
    "test_workers",
    "test_trainer",
    "test_cluster",
)
"""Files of tests that take a minute and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process of several is left with one of them at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
