"""Prepare and normalize over dask workers: what a single process makes, whoever dies, stops or fails meanwhile."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from graphufs import parallel
from graphufs.data import segments
from graphufs.data.manifest import SEGMENTS, Manifest
from graphufs.errors import Stopped, UserError
from graphufs.steps import never_stop, run_step
from graphufs.storage.paths import Paths
from tests.support.experiments import daily_experiment
from tests.support.lookalike import build_atmosphere

USED = ("tmp", "pressfc", "ugrd10m", "dswrf_avetoa", "land_static", "hgtsfc_static")


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
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty days of a look-alike with one stamp a day, one invalid and one missing: four segments."""
    return build_atmosphere(
        tmp_path_factory.mktemp("source") / "fv3.zarr",
        count=80,
        step_hours=24,
        variables=USED,
        nan={"ugrd10m": ["1994-02-10T18"]},
        absent=["1994-01-15T18"],
    )


@pytest.fixture(scope="module")
def alone(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which this process alone did both steps with the look-alike."""
    root = tmp_path_factory.mktemp("alone")
    for step in ("prepare", "normalize"):
        assert run_step(step, daily_experiment(store), root)["status"] == "completed"
    return root


TIMED = (".lock", ".zattrs", ".zmetadata", "manifest.json", ".manifest.copy.json", "provenance.json")


def content(root: Path) -> dict[str, bytes]:
    """Every file of data and statistics but the locks and what tells the time of its making."""
    found = {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("data", "statistics")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and path.name not in TIMED
    }
    for path in (root / "data").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["provenance"], manifest["crc32"]
        found["manifest"] = json.dumps(manifest).encode()
    assert sum(".npz" in name for name in found) and sum("frames" in name for name in found)
    return found


def both(experiment: Any, root: Path, client: Client) -> None:
    with parallel.over(client):
        for step in ("prepare", "normalize"):
            assert run_step(step, experiment, root)["status"] == "completed"
            assert run_step(step, experiment, root)["status"] == "unchanged"
    assert parallel.current() is None


def die_once(module: str, name: str, mark: str) -> None:
    """On a worker: let it die at its first call of a function, if no other did before."""
    target = importlib.import_module(module)
    function = getattr(target, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        try:
            Path(mark).touch(exist_ok=False)
        except FileExistsError:
            return function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(target, name, dying)


@pytest.mark.long  # the embedded world does so
def test_the_look_alike_comes_out_byte_for_byte(store: Path, alone: Path, tmp_path: Path, client: Client) -> None:
    both(daily_experiment(store), tmp_path, client)
    assert content(tmp_path) == content(alone)


@pytest.mark.long  # a worker that is killed spoils nothing, below
def test_the_embedded_world_comes_out_byte_for_byte(
    tiny: Any, normalized_root: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 2**21)  # several segments, here and there
    for root in (tmp_path / "alone", tmp_path / "together"):
        shutil.copytree(normalized_root / "worlds", root / "worlds")
    for step in ("prepare", "normalize"):
        run_step(step, tiny, tmp_path / "alone")
    both(tiny, tmp_path / "together", client)
    manifest = Manifest.read(Paths(tiny, tmp_path / "together").data)
    assert manifest is not None and len(manifest.segments) > 1
    assert content(tmp_path / "together") == content(tmp_path / "alone")


def test_a_worker_that_is_killed_spoils_nothing(store: Path, alone: Path, tmp_path: Path, client: Client) -> None:
    marks = [tmp_path / "preparing", tmp_path / "normalizing"]
    client.run(die_once, "graphufs.data.segments", "verify", str(marks[0]))  # a segment is half written
    client.run(die_once, "graphufs.normalization.blocks", "grid_rows", str(marks[1]))
    both(daily_experiment(store), tmp_path, client)
    assert marks[0].exists()
    assert content(tmp_path) == content(alone)
    assert not list(Paths(daily_experiment(store), tmp_path).data.glob(f"{SEGMENTS}/.*"))


def test_a_stop_between_segments_keeps_whole_ones_only(
    store: Path, alone: Path, tmp_path: Path, client: Client
) -> None:
    chosen = daily_experiment(store)
    events: list[Any] = []
    with parallel.over(client):
        result = run_step("prepare", chosen, tmp_path, progress=events.append, should_stop=lambda: bool(events))
    assert result["status"] == "stopped" and "stopped after 1 segments" in result["message"]
    folder = Paths(chosen, tmp_path).data
    manifest = Manifest.read(folder)
    assert manifest is not None and len(manifest.segments) == 1
    assert manifest.segments[0].damage(folder, thorough=True) is None
    both(chosen, tmp_path, client)
    assert content(tmp_path) == content(alone)


def linger(folder: str, number: int) -> None:
    """Work until nobody waits for it."""
    Path(folder, f"{number}-begun").touch()
    while not parallel.abandoned():
        time.sleep(0.05)
    Path(folder, f"{number}-given-up").touch()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_stop_is_obeyed_within_a_second(tmp_path: Path, client: Client) -> None:
    asked: list[float] = []

    def should_stop() -> bool:
        if len(list(tmp_path.glob("*-begun"))) == 2:
            asked.append(time.monotonic())
        return bool(asked)

    with parallel.over(client), pytest.raises(Stopped, match="enough"):
        list(
            parallel.map_unordered(
                partial(linger, str(tmp_path)), range(20), should_stop=should_stop, stopped=lambda: "enough"
            )
        )
    assert time.monotonic() - asked[0] < 1
    wait_for(lambda: len(list(tmp_path.glob("*-given-up"))) == 2)
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == 4  # none of the others was begun


def test_what_fails_on_a_worker_is_said_as_it_is_here(store: Path, tmp_path: Path, client: Client) -> None:
    broken = tmp_path / "fv3.zarr"
    shutil.copytree(store, broken)
    chunk = next(path for path in sorted((broken / "pressfc").rglob("*")) if path.name.startswith("40"))
    chunk.write_bytes(b"no chunk at all")
    messages = []
    for name, used in (("here", None), ("there", client)):
        with pytest.raises(UserError, match="could not be read from") as caught, parallel.over(used):
            run_step("prepare", daily_experiment(broken), tmp_path / name)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def fail(piece: int) -> int:
    raise ValueError(f"piece {piece}")


def die(piece: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return piece


def square(piece: int) -> int:
    return piece * piece


def every(function: Callable[[int], int], pieces: range, **options: Any) -> dict[int, int]:
    return dict(parallel.map_unordered(function, pieces, should_stop=never_stop, stopped=str, **options))


def test_every_way_gives_each_piece_once(client: Client) -> None:
    expected = {number: number * number for number in range(50)}
    assert every(square, range(50)) == every(square, range(50), threads=2) == expected
    with parallel.over(client):
        assert every(square, range(50), here=fail) == expected
        assert every(square, range(0)) == {}
        with pytest.raises(ValueError, match="piece 0"):
            every(fail, range(1))
    with pytest.raises(ValueError, match="piece [012]"):
        every(fail, range(3), threads=2)


def give_up_once(mark: str, piece: int) -> int:
    if not Path(mark).exists():
        Path(mark).touch()
        raise Stopped("nobody seems to wait")
    return piece


def test_a_piece_that_a_worker_gave_up_by_mistake_is_done_again(tmp_path: Path, client: Client) -> None:
    with parallel.over(client):
        assert every(partial(give_up_once, str(tmp_path / "mark")), range(3)) == {0: 0, 1: 1, 2: 2}


def test_a_piece_that_kills_its_workers_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 1)
    with parallel.over(client), pytest.raises(UserError, match="workers died one after the other"):
        every(die, range(1))


def test_where_no_worker_is_left_the_step_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PATIENCE", 1.0)
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        parallel.over(client),
        pytest.raises(UserError, match="no dask worker for 1 s"),
    ):
        every(square, range(3))


def test_a_scheduler_that_goes_away_is_named() -> None:
    looks = 0

    cluster = LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster) as client:

        def look() -> bool:
            nonlocal looks
            looks += 1
            if looks == 2:
                cluster.close()
            return False

        with parallel.over(client), pytest.raises(UserError, match="the dask scheduler is gone"):
            list(parallel.map_unordered(square, range(3), should_stop=look, stopped=str))
