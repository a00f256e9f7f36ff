"""Stores behind servers that are slow, failing or not there: read rightly, or refused in one line in time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gcsfs
import numpy as np
import pytest
import xarray as xr

from graphufs.data.dataset import PreparedData
from graphufs.errors import UserError
from graphufs.replay import source
from graphufs.replay.source import ReplayStore, open_store
from graphufs.steps import run_step
from graphufs.storage import object_stores
from graphufs.storage.object_stores import open_remote
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import open_zarr
from tests.support.experiments import experiment
from tests.support.lookalike import build_atmosphere
from tests.support.object_server import ObjectServer, silent

CLIENTS = ("gs", "s3", "http")
QUICK = {"connect_timeout": 5, "read_timeout": 1, "retry_for": 30}
"""Seconds; long enough for a busy machine where nothing goes wrong."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    build_atmosphere(folder / "fv3.zarr", count=6, variables=("pressfc", "ugrd10m"))
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[ObjectServer]:
    with ObjectServer(folder).running() as server:
        yield server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_stores, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(source, "FIRST_PAUSE", 0.1)


def opened(server: ObjectServer, protocol: str, **options: Any) -> ReplayStore:
    address, own = server.address(protocol, "fv3.zarr")
    return open_store(address, "fv3", {**own, **QUICK, **options})


def read_all(store: ReplayStore) -> np.ndarray:
    return np.stack([store.read("pressfc", store.times[at : at + 1]) for at in range(store.times.size)])


def test_the_client_for_google_storage_asks_nothing_by_grpc(server: ObjectServer, folder: Path) -> None:
    assert os.environ[object_stores.ASK_BUCKET_TYPE] == "false"
    store = open_remote(*server.address("gs", "fv3.zarr"))
    assert type(store._store.fs) is gcsfs.core.GCSFileSystem  # type: ignore[attr-defined]
    assert np.array_equal(read_all(opened(server, "gs")), read_all(open_store(str(folder / "fv3.zarr"), "fv3")))
    assert max(count for name, count in server.asked.items() if "/pressfc/" in name) == 1


@pytest.mark.parametrize("protocol", CLIENTS)
def test_requests_that_fail_are_made_again_whatever_the_fault(
    server: ObjectServer, folder: Path, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    faults = {"0.0.0": "503", "1.0.0": "reset", "2.0.0": "short", "3.0.0": "cut", "4.0.0": "stall"}

    def once(name: str, time: int) -> str:
        return faults.get(name.rpartition("/")[2], "") if "/pressfc/" in name and time == 1 else ""

    server.faults = once
    found = read_all(opened(server, protocol))
    assert np.array_equal(found, read_all(open_store(str(folder / "fv3.zarr"), "fv3")))
    assert all(server.asked[f"fv3.zarr/pressfc/{chunk}"] >= 2 for chunk in faults)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("protocol", CLIENTS)
def test_an_object_that_never_comes_ends_the_reading_in_one_line(server: ObjectServer, protocol: str) -> None:
    server.faults = lambda name, time: "stall" if name.endswith("/pressfc/2.0.0") else ""
    store = opened(server, protocol, retry_for=3)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"pressfc at 1994-01-01T00 could not be read.*waited for 3 s") as caught:
        read_all(store)
    assert time.monotonic() - begun < 15 and "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", CLIENTS)
def test_without_any_answer_opening_ends_in_one_line_in_time(
    protocol: str, server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    with silent() as endpoint:
        server.endpoint = endpoint
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"the Replay store.*does not answer.*check the address") as caught:
            opened(server, protocol, connect_timeout=1, read_timeout=60)
    assert time.monotonic() - begun < 10 and "\n" not in str(caught.value)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.long
@pytest.mark.parametrize("protocol", CLIENTS)
def test_without_a_network_the_error_comes_within_15_seconds_by_default(protocol: str, server: ObjectServer) -> None:
    address, options = server.address(protocol, "fv3.zarr")
    options = {key: value for key, value in options.items() if key != "endpoint_url"}
    if protocol == "http":
        address = "https://no-such-host.invalid/fv3.zarr"
    else:
        options["endpoint_url"] = "https://no-such-host.invalid"
    begun = time.monotonic()
    with pytest.raises(UserError, match="does not answer") as caught:
        open_store(address, "fv3", options)
    assert time.monotonic() - begun < 15 and "\n" not in str(caught.value)


def test_a_connection_that_fails_is_tried_again_and_missing_credentials_are_not() -> None:
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError, SSLError

    for error in (EndpointConnectionError(endpoint_url="https://x"), SSLError(endpoint_url="https://x", error="reset")):
        assert not object_stores.lasting(error)
    assert object_stores.lasting(NoCredentialsError())


def test_a_refusal_is_not_asked_again_and_brings_no_traceback(
    server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = lambda name, time: "401"
    with pytest.raises(UserError, match=r"cannot open the Replay store.*401") as caught:
        opened(server, "gs")
    assert "\n" not in str(caught.value) and max(server.asked.values()) == 1
    assert not any(record.exc_info for record in caplog.records)


def test_what_is_slow_is_told_in_one_line(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(server, "http", connect_timeout=1)
    server.faults = lambda name, time: "stall" if time < 3 and name.endswith(("0.0.0", "1.0.0")) else ""
    with caplog.at_level(logging.WARNING):
        read_all(store)
    told = [record.getMessage() for record in caplog.records if "is slow" in record.getMessage()]
    assert len(told) == 1 and "pressfc/0.0.0" in told[0] and "for 30 s at most" in told[0]


@pytest.mark.parametrize("value", [0, -1, True, "soon", float("nan"), 1e9])
def test_times_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(UserError, match="storage_options has read_timeout"):
        open_zarr("gs://bucket/x", storage_options={"read_timeout": value})


def test_own_timeouts_of_a_client_are_kept() -> None:
    given = {"client_kwargs": {"timeout": 3, "trust_env": True}}
    kept = object_stores._with_timeouts("https://host/x", given, object_stores.Patience())
    assert kept == given
    chained = object_stores._with_timeouts("simplecache::gs://b/x", {"gs": {"token": "anon"}}, object_stores.Patience())
    assert chained["gs"]["token"] == "anon" and chained["gs"]["requests_timeout"].sock_read == 30


def test_an_experiment_prepared_through_a_failing_server_is_that_of_the_files(tmp_path: Path) -> None:
    days = {"training": ("1993-12-31T18", "1994-01-01T18"), "validation": ("1994-01-02T00", "1994-01-02T18")}
    settings: dict[str, Any] = {"inputs": ["pressfc"], "targets": ["pressfc"], "forcings": [], "levels": []}
    settings |= {**days, "evaluation": ("1994-01-03T00", "1994-01-04T18")}
    build_atmosphere(tmp_path / "fv3.zarr", count=34, variables=("pressfc",))
    with ObjectServer(tmp_path).running() as server:
        kinds = ("503", "reset", "short", "")
        server.faults = lambda name, time: kinds[sum(map(ord, name)) % 4] if "/pressfc/" in name and time == 1 else ""
        address, options = server.address("gs", "fv3.zarr")
        chosen = experiment(address, source={"storage_options": {**options, **QUICK}}, **settings)
        assert run_step("prepare", chosen, tmp_path)["status"] == "completed"
        assert server.asked.total() > 25
        assert run_step("prepare", chosen, tmp_path)["status"] == "unchanged"
    local = experiment(tmp_path / "fv3.zarr", **settings)
    run_step("prepare", local, tmp_path)
    remote, files = (PreparedData.open(Paths(one, tmp_path).data) for one in (chosen, local))
    assert np.array_equal(remote.read(remote.stamps), files.read(files.stamps))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_that_was_cut_off_is_an_error_not_other_values(tmp_path: Path, zarr_format: int) -> None:
    from numcodecs import Blosc
    from zarr.codecs import BloscCodec

    values = np.random.default_rng(0).normal(size=50_000).round(2).astype(np.float32)
    compressor: Any = Blosc("lz4") if zarr_format == 2 else BloscCodec(cname="lz4")
    xr.Dataset({"a": ("x", values)}).to_zarr(
        tmp_path / "s", zarr_format=zarr_format, encoding={"a": {"compressors": [compressor], "chunks": (50_000,)}}
    )
    assert np.array_equal(open_zarr(tmp_path / "s")["a"].values, values)
    chunk = tmp_path / "s" / "a" / ("0" if zarr_format == 2 else "c/0")
    for length in (chunk.stat().st_size - 1, 1000, 3):
        chunk.write_bytes(chunk.read_bytes()[:length])
        with pytest.raises(UserError, match=f"cut off: it has {length} bytes"):
            open_zarr(tmp_path / "s")["a"].load()
