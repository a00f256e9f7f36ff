"""The tiny experiment, run once a session, for every test that needs real data or a trained emulator."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import sqlite3  # noqa: F401  before a test imports ecCodes, whose wheel brings an SQLite of 2018
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphufs import masking
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.steps import CHAINS, run_step
from tests.airflow.inside import group
from tests.slurm import running, slurm_cluster
from tests.support import phases, skips
from tests.support.programs import kept

# What tests write lies in memory where there is room: they write many small files, and each waits for the disk.
if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 6 * 2**30:
    os.environ["TMPDIR"] = "/dev/shm"
    tempfile.tempdir = None  # as it was before anything asked for it

# The tests compile the same few programs again and again; JAX reads these when it is first imported, here, in the
# processes the tests start, and in pytest-xdist's workers, which share the first process's folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="graphufs-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# To compile takes the tests longer than to compute, and a quarter as long where nothing is optimized. With XLA_FLAGS
# in the environment, an empty one included, programs are compiled as a user's: `make test-isa` does that.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)

Cluster = slurm_cluster.Cluster
TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"


@pytest.fixture(scope="session", autouse=True)
def programs() -> Iterator[None]:
    """Trainings and forecasts of this process share what is compiled."""
    with kept():
        yield


@pytest.fixture(autouse=True)
def no_secrets() -> Iterator[None]:
    """What a test gave as a credential is not taken out of the messages of the next."""
    yield
    masking._known.clear()


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """The experiment of experiments/tiny.yaml."""
    return loading.load(TINY)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of pytest-xdist's workers to need it makes, and the others take as it is."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            temporary = folder.with_name(f"{name}.made-by-{os.getpid()}")
            make(temporary)
            temporary.rename(folder)
    return folder


@pytest.fixture(scope="session")
def normalized_root(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment) -> Path:
    """A root in which tiny's data and statistics are there. Not to be written to: take `copy_of_root`."""

    def make(root: Path) -> None:
        for step in ("prepare", "normalize"):
            assert run_step(step, tiny, root)["status"] == "completed"

    return made_once(tmp_path_factory, "normalized", make)


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment, normalized_root: Path) -> Path:
    """A root in which all steps of tiny are done. Not to be written to: take `copy_of_root`."""

    def make(root: Path) -> None:
        shutil.copytree(normalized_root, root)
        for step in CHAINS["run"]:
            run_step(step, tiny, root)

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A Slurm of two nodes for all tests of this process: leave it as it was found, without jobs and all daemons up."""
    with running(request) as cluster:
        yield cluster


@pytest.fixture
def copy_of_root(tmp_path: Path) -> Callable[[Path], Path]:
    """A function that copies a root for a test to work in."""

    def copy(root: Path) -> Path:
        return Path(shutil.copytree(root, tmp_path / "copy"))

    return copy


def pytest_configure(config: pytest.Config) -> None:
    """Tell at the end where the time went and what was skipped."""
    config.pluginmanager.register(phases.Plugin(config), "phases")
    config.pluginmanager.register(skips.Plugin(config), "skips")


AIRFLOW = tuple(f"tests/airflow/test_{name}.py" for name in ("end_to_end", "faults", "faults_people", "guards"))
SERVERS = (*AIRFLOW, "tests/slurm/test_cluster.py", "tests/slurm/test_jobs.py")
"""Files of tests that share an Airflow and a Slurm, so one process takes them all."""
APART = ("tests/slurm/test_jobs.py::test_several_processes", "tests/slurm/test_faults.py")
"""What the names of tests begin with that are dealt out one by one: each waits more than it computes."""
INSIDE = "tests/airflow/inside/"
"""The folder of the tests inside Airflow's environment."""
FIRST = (
    *SERVERS,
    # these two need no data of tiny's, which the process that took SERVERS makes meanwhile
    *("tests/golden/test_graphcast.py", "tests/weatherbench/test_era5.py"),
    *(
        f"tests/{name}.py"
        for name in ("train/test_resume", "train/test_devices", "train/test_trainer", "test_parallel")
    ),
    *(f"tests/{name}.py" for name in ("train/test_tracking", "nightly/test_plan", "nightly/test_record")),
    *(f"tests/{name}.py" for name in ("normalization/test_step", "weatherbench/test_evaluate", "cli/test_score")),
)
"""The order of the files of tests that take a minute and more; the others follow."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out tests by file to the processes of pytest-xdist, but for SERVERS and APART."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if path.startswith(INSIDE):  # one process of Airflow's runs all of a group
                return INSIDE + group(Path(path).name)
            return nodeid if nodeid.startswith(APART) else "servers" if path in SERVERS else path

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process of several is left with one of them at the end."""
    order = {path: number for number, path in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what is there for good, and look less often at what compiling keeps.

    A tenth of all processor time went into looking again and again at the same modules, tests and programs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)
