"""Scoring in shares, on threads and on dask workers: the same to the last bit, in any order, with flat memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from graphufs import parallel
from graphufs.cli.main import app
from graphufs.config import loading
from graphufs.errors import Stopped, UserError
from graphufs.steps import never_stop, no_progress
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import write_zarr
from graphufs.weatherbench import evaluate
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.score_request import ScoreRequest, StorePaths
from graphufs.weatherbench.score_stores import evaluate_stores
from graphufs.weatherbench.scoring.parallel import SMALLEST, merged, score_in_shares, split
from graphufs.weatherbench.scoring.score_state import ScoreState
from tests.cli.test_score import STAMPS, stores
from tests.cli.test_score_ensembles import ensemble, with_quantiles
from tests.support import idealised
from tests.weatherbench.conftest import Made
from tests.weatherbench.scoring.test_score_state import AXES

TIMES = STAMPS[:36]
"""Of the small states here; whole forecasts have their own."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two worker processes."""
    cluster = LocalCluster(
        processes=True,
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
    )
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> StorePaths:
    """Stores with 30 initial times, NaN in some."""
    folder = tmp_path_factory.mktemp("shares")
    made = stores("descending", STAMPS[:30])
    made["forecast"]["temperature"].values[4, 1, 0, 2, 3] = np.nan
    for name, dataset in made.items():
        write_zarr(folder / name, {None: dataset})
    return StorePaths(*(str(folder / name) for name in ("forecast", "truth", "climatology")))


WANTED = ScoreRequest(baselines=("persistence", "climatology"), regions=("global", "tropics"), skipna=True)


def assert_same(one: dict[str, ScoreState], other: dict[str, ScoreState]) -> None:
    assert list(one) == list(other)
    for name, state in one.items():
        assert state.checksum() == other[name].checksum() and state.axes == other[name].axes


def test_threads_make_what_one_makes(written: StorePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    from graphufs.weatherbench.score_stores import ScoringJob

    plain = ScoringJob.score

    def noted(self: ScoringJob, *arguments: object, **options: object) -> dict[str, ScoreState]:
        seen.add(threading.get_ident())
        return plain(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ScoringJob, "score", noted)
    alone = evaluate_stores(written, WANTED)
    assert len(alone.states["emulator"]) == 30 and seen == {threading.get_ident()}
    told: list[tuple[int, int]] = []
    shared = evaluate_stores(written, WANTED, threads=3, progress=lambda *done: told.append(done))
    assert_same(shared.states, alone.states)
    assert len(seen) > 1 and threading.get_ident() in seen
    assert sorted(told) == [(done, 30) for done in range(1, 31)]


@pytest.mark.long  # without members they do so in make test
def test_dask_workers_score_members_as_one_process_does(tmp_path: Path, client: Client) -> None:
    made = stores("poles", STAMPS[4:28])
    made["forecast"], made["climatology"] = ensemble(made), with_quantiles(made["climatology"])
    for name, dataset in made.items():
        write_zarr(tmp_path / name, {None: dataset})
    paths = StorePaths(*(str(tmp_path / name) for name in ("forecast", "truth", "climatology")))
    wanted = ScoreRequest(levels=(500,), regions=("global",), map_leads=(24.0,))
    alone = evaluate_stores(paths, wanted)
    with parallel.over(client):
        shared = evaluate_stores(paths, wanted)
    assert_same(shared.states, alone.states)
    assert alone.histograms and shared.histograms and alone.diagnostics and shared.diagnostics
    assert shared.diagnostics.ensemble
    xr.testing.assert_allclose(shared.histograms.dataset(), alone.histograms.dataset(), rtol=1e-12)
    xr.testing.assert_allclose(shared.diagnostics.dataset(), alone.diagnostics.dataset(), rtol=1e-12)


@pytest.mark.long  # the command takes workers below
def test_dask_workers_make_what_one_process_makes(written: StorePaths, client: Client, prepared: Made) -> None:
    alone = evaluate_stores(written, WANTED)
    with parallel.over(client):
        shared = evaluate_stores(written, WANTED)
    assert_same(shared.states, alone.states)
    experiment, root = prepared
    evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    address = client.scheduler.address
    assert (
        Paths(experiment, root).scores
        == Paths(loading.parse(loading.dump(experiment), [f"evaluation.dask={address}"]), root).scores
    )
    other = loading.parse(loading.dump(experiment), [f"evaluation.dask={address}", "evaluation.regions=[tropics]"])
    evaluate.run(other, root, progress=no_progress, should_stop=never_stop)
    here, there = (Scores.open(Paths(one, root).scores) for one in (experiment, other))
    for channel in here.channels:
        for forecast in here.forecasts:
            mine, others = (one.values("acc", forecast, channel) for one in (here, there))
            np.testing.assert_allclose(mine, others, rtol=1e-12, equal_nan=True)


def test_the_command_takes_threads_and_workers(
    written: StorePaths, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [written.forecast, written.truth, written.climatology]
    for name, options in (
        ("one", ["--threads", "1"]),
        ("three", ["--threads", "3"]),
        ("dask", ["--dask", client.scheduler.address]),
    ):
        app(["score", *paths, str(tmp_path / name), "--regions", "global", *options], result_action="return_value")
    one, three, dask = (xr.open_dataset(tmp_path / name / "deterministic.nc") for name in ("one", "three", "dask"))
    xr.testing.assert_identical(one, three)
    xr.testing.assert_identical(one, dask)
    monkeypatch.setattr(parallel, "TIMEOUT", "1s")
    with pytest.raises(UserError, match="no dask scheduler answers at tcp://127.0.0.1:9 .* leave out --dask"):
        app(["score", *paths, str(tmp_path / "x"), "--dask", "tcp://127.0.0.1:9"], result_action="return_value")


def made(times: np.ndarray) -> dict[str, ScoreState]:
    """States that tell their initial times."""
    state = ScoreState(AXES)
    for time in times:
        state.update(time, np.full(AXES.shape, float(time.astype(np.int64) // 10**9)))
    return {"emulator": state}


def share(
    times: np.ndarray, threads: int, should_stop: Callable[[], bool] = never_stop, slow: bool = False
) -> dict[str, ScoreState]:
    first = threading.Event()

    def here(piece: np.ndarray, tell: Callable[[], None]) -> dict[str, ScoreState]:
        if slow and piece[0] == times.min():
            first.wait(10)  # until another share is done
        tell()
        first.set()
        return made(piece)

    return score_in_shares(
        times, here, made, merged, threads=threads, progress=lambda *done: None, should_stop=should_stop
    )


def test_shares_are_merged_in_order_whichever_comes_first() -> None:
    found = share(TIMES[::-1], 4, slow=True)["emulator"]
    np.testing.assert_array_equal(found.initial_times, TIMES)
    assert found.checksum() == made(TIMES)["emulator"].checksum()
    assert list(found._averages) == list(TIMES)


def test_shares_are_neighbours_of_about_the_same_size_and_not_too_small() -> None:
    pieces = split(np.random.default_rng(0).permutation(TIMES), 4)
    assert [len(piece) for piece in pieces] == [9, 9, 9, 9]
    np.testing.assert_array_equal(np.concatenate(pieces), TIMES)
    assert [len(piece) for piece in split(TIMES[:15], 4)] == [15]
    assert len(split(TIMES, 100)) == len(TIMES) // SMALLEST


@pytest.mark.parametrize("threads", [1, 4])
def test_a_stop_ends_all_shares(threads: int) -> None:
    with pytest.raises(Stopped, match="stopped in scores"):
        share(TIMES, threads, should_stop=lambda: True)


def test_an_error_in_a_share_is_the_error_of_all() -> None:
    def here(piece: np.ndarray, tell: Callable[[], None]) -> dict[str, ScoreState]:
        raise UserError("this share cannot be read")

    with pytest.raises(UserError, match="this share cannot be read"):
        score_in_shares(
            TIMES, here, made, merged, threads=2, progress=lambda *done: None, should_stop=never_stop
        )  # fmt: skip


@pytest.mark.long  # the command with threads and workers shows the same
def test_the_step_uses_threads_where_there_are_cores(prepared: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, root = prepared
    fewer = loading.parse(loading.dump(experiment), ["forecast.every=78h"])
    idealised.write_forecasts(fewer, root)
    checksums, maps = [], []
    for number in (1, 3):
        monkeypatch.setattr(evaluate, "cores", lambda number=number: number)
        place = Paths(fewer, root).scores
        evaluate.run(fewer, root, progress=no_progress, should_stop=never_stop)
        scores = Scores.open(place)
        assert scores.diagnostics is not None
        checksums.append(scores.checksums)
        maps.append(scores.diagnostics.load())
        place.rename(place.with_name(f"{number}.zarr"))
    assert checksums[0] == checksums[1]
    xr.testing.assert_allclose(maps[1], maps[0], rtol=1e-12)
    assert len(maps[1]["init_time"]) == len(fewer.initial_times)
