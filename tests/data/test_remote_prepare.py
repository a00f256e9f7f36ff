"""What is prepared of a store far away, whose server fails, is what a local one gives; `check` says what travels."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from graphufs.config.experiment import Experiment
from graphufs.data import preflight
from graphufs.data.dataset import PreparedData
from graphufs.errors import UserError
from graphufs.steps import Event, run_step
from graphufs.storage import object_stores
from graphufs.storage.chunks import partial_chunks
from graphufs.storage.paths import Paths
from tests.support.experiments import experiment
from tests.support.lookalike import build_atmosphere
from tests.support.object_server import ObjectServer

VARIABLES = ("pressfc", "ugrd10m", "tmp", "dswrf_avetoa", "land_static", "hgtsfc_static")
FAULTS = dict(enumerate(("503", "reset", "short", "cut", "stall")))


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ObjectServer]:
    path = build_atmosphere(tmp_path / "fv3.zarr", count=150, latitudes=16, longitudes=32, variables=VARIABLES)
    monkeypatch.setattr(partial_chunks, "AT_LEAST", 2**16)
    monkeypatch.setattr(partial_chunks, "START_BYTES", 2**10)
    monkeypatch.setattr(partial_chunks, "GAP_BYTES", 2**9)
    monkeypatch.setattr(partial_chunks, "USUAL_BLOCK", 2**14)
    monkeypatch.setattr(object_stores, "FIRST_PAUSE", 0.1)
    return path, ObjectServer(tmp_path)


def chosen(url: str | Path, **options: Any) -> Experiment:
    return experiment(url, source={"storage_options": options})


def contents(chosen: Experiment, root: Path) -> dict[str, bytes]:
    """Each file of the prepared data but the manifest's, which says when and from where."""
    folder = Paths(chosen, root).data
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent != folder
    }


def test_from_a_failing_server_comes_byte_for_byte_what_a_local_store_gives(far, tmp_path: Path) -> None:
    path, server = far
    local = chosen(path)
    run_step("prepare", local, tmp_path / "local")
    events: list[Event] = []
    server.faults = lambda name, time: (
        FAULTS.get(crc32(name.encode()) % 60, "") if time == 1 and "/0." not in name else ""
    )
    with server.running():
        address, options = server.address("gs", "fv3.zarr")
        remote = chosen(
            address, **options, connect_timeout=20, read_timeout=1, retry_for=60, requests=16, reading_mib=64
        )
        told = preflight.preflight(remote, tmp_path / "far")
        run_step("prepare", remote, tmp_path / "far", progress=events.append)
    made = contents(remote, tmp_path / "far")
    assert made == contents(local, tmp_path / "local") and made
    assert max(event.metrics.get("MB/s", 0) for event in events) > 0
    assert [event.done for event in events] == sorted(event.done for event in events)
    share = int(told["to fetch"].split()[-2])
    assert "before compression" in told["to fetch"] and 3 < share < 40, told
    assert preflight.preflight(local, tmp_path / "local")["to fetch"].endswith(" 100 %")
    whole = sum(file.stat().st_size for file in (path / "tmp").iterdir() if file.name[0].isdigit())
    sent = sum(count for name, count in server.sent.items() if "/tmp/" in name)
    assert sent < 0.5 * whole


def test_the_months_of_a_store_that_cannot_be_read_end_with_its_error(far, tmp_path: Path) -> None:
    """Two are read at once: the other one ends too, and nothing half-written stays."""
    _, server = far
    server.faults = lambda name, time: "403" if "/tmp/70." in name or "/tmp/71." in name else ""
    with server.running():
        address, options = server.address("http", "fv3.zarr")
        remote = chosen(address, **options, connect_timeout=5, read_timeout=1, retry_for=2)
        with pytest.raises(UserError, match="could not be read"):
            run_step("prepare", remote, tmp_path / "far")
    folder = Paths(remote, tmp_path / "far").data
    assert not list((folder / "segments").glob(".*"))
    assert PreparedData.open(folder).stamps.size in (0, 1)
