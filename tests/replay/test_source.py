from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from fsspec.implementations.memory import MemoryFileSystem
from zarr.storage import FsspecStore

from graphufs.errors import UserError
from graphufs.replay import source
from graphufs.replay.opening import clean_url
from graphufs.replay.source import Allowances, open_store
from graphufs.replay.synthetic.outline import embedded_outline
from tests.support.lookalike import Weather, build_atmosphere, stamps_from

SOME = ("tmp", "pressfc", "land_static")


def test_values_come_out_as_they_lie_in_the_store(store: Path) -> None:
    replay = open_store(str(store), "fv3")
    weather = Weather(replay.latitude, replay.longitude)
    stamps = replay.times[[7, 2, 90]]
    found = replay.read("tmp", stamps, np.array([43, 126]))
    assert found.dtype == np.float32
    for frame, stamp in zip(found, stamps, strict=True):
        assert np.array_equal(frame, weather.field("tmp", stamp, [43, 126]))
    assert replay.latitude[0] > replay.latitude[-1]
    assert replay.times[0] == np.datetime64("1993-12-31T18")


@pytest.mark.parametrize(
    "quirk",
    [
        {"pfull": "float64"},
        {"pfull": "rounded"},
        {"time_coordinates": False},
        {"zarr_format": 3},
        {"subsampled_from": 32},
        {"step_hours": 6},
    ],
    ids=str,
)
def test_variants_of_the_store_are_read_alike(tmp_path: Path, quirk: dict[str, Any]) -> None:
    path = build_atmosphere(tmp_path / "fv3.zarr", count=3, variables=SOME, **quirk)
    replay = open_store(str(path), "fv3")
    weather = Weather(replay.latitude, replay.longitude)
    assert np.array_equal(replay.read("pressfc", replay.times[1:2])[0], weather.field("pressfc", replay.times[1]))
    assert set(replay.names) == set(SOME)


def test_extra_time_coordinates_are_no_variables(store: Path) -> None:
    assert not {"cftime", "ftime", "time", "pfull"} & set(open_store(str(store), "fv3").names)


@pytest.mark.parametrize("fill_value", [0, None])
def test_integer_masks_become_float32_and_keep_their_zeros(tmp_path: Path, fill_value: int | None) -> None:
    path = build_atmosphere(tmp_path / "fv3.zarr", count=2, variables=SOME)
    group = zarr.open_group(str(path), mode="a", zarr_format=2)
    values = group["land_static"][...]
    array = group.create_array("land_static", shape=values.shape, dtype="int32", fill_value=fill_value, overwrite=True)
    array[...] = values
    array.attrs["_ARRAY_DIMENSIONS"] = ["grid_yt", "grid_xt"]
    zarr.consolidate_metadata(str(path), zarr_format=2)
    found = open_store(str(path), "fv3").read("land_static")
    assert found.dtype == np.float32
    assert set(np.unique(found)) == {0, 1}


def test_a_time_axis_tagged_julian_keeps_the_dates_it_shows(tmp_path: Path) -> None:
    path = build_atmosphere(tmp_path / "fv3.zarr", count=4, variables=("pressfc",), time_coordinates=False)
    group = zarr.open_group(str(path), mode="a", zarr_format=2)
    group["time"].attrs.update({"calendar": "julian", "units": "hours since 1993-12-31 18:00:00"})
    zarr.consolidate_metadata(str(path), zarr_format=2)
    assert np.array_equal(open_store(str(path), "fv3").times, stamps_from("1993-12-31T18", 4, 3))


def test_units_that_look_like_durations_leave_values_alone(tmp_path: Path) -> None:
    path = build_atmosphere(tmp_path / "fv3.zarr", count=2, variables=("pressfc",))
    group = zarr.open_group(str(path), mode="a", zarr_format=2)
    group["pressfc"].attrs["units"] = "s"  # as sunsd_acc, sunshine duration
    zarr.consolidate_metadata(str(path), zarr_format=2)
    replay = open_store(str(path), "fv3", allowances=Allowances(implausible=("pressfc",)))
    assert replay.read("pressfc", replay.times[:1]).max() > 1e5


def test_the_ocean_has_its_own_dimensions_and_keeps_its_land(ocean: Path) -> None:
    replay = open_store(str(ocean), "mom6")
    assert replay.facts("temp").vertical == "z_l"
    assert replay.facts("ho").vertical == "zl"
    assert replay.facts("SSH").vertical is None
    values = replay.read("temp", replay.times[:1], np.array([0]))
    assert np.isnan(values).any() and np.isfinite(values).any()


@pytest.mark.parametrize(("component", "fixture"), [("mom6", "store"), ("fv3", "ocean")])
def test_the_wrong_component_is_named(component: str, fixture: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(UserError, match=r"set data\.source\.component to one of fv3, mom6"):
        open_store(str(request.getfixturevalue(fixture)), component)


def test_a_place_without_a_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot open the Replay store at .*nowhere\.zarr"):
        open_store(str(tmp_path / "nowhere.zarr"), "fv3")


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("gcs://bucket/ufs-hr1/fv3.zarr", "gs://bucket/ufs-hr1/fv3.zarr"),
        ("gs://bucket/fv3.zarr", "gs://bucket/fv3.zarr"),
        ("s3://bucket/fv3.zarr", "s3://bucket/fv3.zarr"),
        ("https://host/fv3.zarr", "https://host/fv3.zarr"),
        ("file:///data/fv3.zarr", "/data/fv3.zarr"),
        ("/data/fv3.zarr", "/data/fv3.zarr"),
    ],
)
def test_urls_have_one_spelling(given: str, clean: str) -> None:
    assert clean_url(given) == clean


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert clean_url("data/fv3.zarr") == str(tmp_path / "data" / "fv3.zarr")


class PickyFileSystem(MemoryFileSystem):
    """Opens only for who brings the token of the public bucket."""

    protocol = "picky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def __init__(self, *args: Any, token: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if token != "anon":
            raise PermissionError("no anonymous access without token=anon")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("picky://", "memory://"))


def test_storage_options_reach_the_file_system_and_its_absence_is_explained(store: Path) -> None:
    fsspec.register_implementation("picky", PickyFileSystem, clobber=True)
    files = fsspec.filesystem("picky", token="anon")
    files.put(str(store), "/bucket/fv3.zarr", recursive=True)
    replay = open_store("picky://bucket/fv3.zarr", "fv3", {"token": "anon"})
    local = open_store(str(store), "fv3")
    assert np.array_equal(replay.read("pressfc", replay.times[3:5]), local.read("pressfc", local.times[3:5]))
    with pytest.raises(UserError, match=r"no anonymous access.*storage_options \{token: anon\} for gs://"):
        open_store("picky://bucket/fv3.zarr", "fv3")


def test_google_storage_gets_the_url_and_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def remember(url: str, **options: Any) -> xr.Dataset:
        seen.update(options, url=url)
        raise FileNotFoundError("offline")

    monkeypatch.setattr(FsspecStore, "from_url", remember)
    with pytest.raises(UserError, match="offline"):
        open_store("gcs://noaa-ufs-gefsv13replay/ufs-hr1/fv3.zarr", "fv3", {"token": "anon", "read_timeout": 7})
    assert seen["url"] == "gs://noaa-ufs-gefsv13replay/ufs-hr1/fv3.zarr"
    timeout = seen["storage_options"].pop("requests_timeout")
    assert (timeout.total, timeout.sock_connect, timeout.sock_read) == (None, 10, 7)
    assert seen["storage_options"] == {"token": "anon"}


@pytest.fixture
def served(store: Path) -> Iterator[str]:
    """The store behind a plain web server on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(store.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{store.name}"
    server.shutdown()
    server.server_close()


def test_a_store_is_read_over_http(served: str, store: Path) -> None:
    replay, local = open_store(served, "fv3"), open_store(str(store), "fv3")
    chosen = np.array([75])
    assert np.array_equal(replay.read("tmp", replay.times[:2], chosen), local.read("tmp", local.times[:2], chosen))


def test_a_store_is_read_from_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    store = build_atmosphere(tmp_path / "fv3.zarr", count=3, variables=SOME)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
        files = fsspec.filesystem("s3", **options)
        files.mkdir("replay")
        files.put(str(store), "replay/fv3.zarr", recursive=True)
        replay, local = open_store("s3://replay/fv3.zarr", "fv3", options), open_store(str(store), "fv3")
        assert np.array_equal(replay.read("pressfc", replay.times[:3]), local.read("pressfc", local.times[:3]))
    finally:
        server.stop()


def test_a_remote_read_is_tried_again_and_then_reported(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    replay = open_store(str(store), "fv3")
    monkeypatch.setattr(replay, "url", "gs://bucket/fv3.zarr")
    monkeypatch.setattr(source, "FIRST_PAUSE", 0.0)
    values = xr.Variable.values
    failures = iter([OSError("connection reset"), OSError("connection reset"), None])

    def flaky(variable: xr.Variable) -> np.ndarray:
        error = next(failures, OSError("gone for good"))
        if error:
            raise error
        return values.fget(variable)  # type: ignore[attr-defined]

    monkeypatch.setattr(xr.Variable, "values", property(flaky))
    assert np.isfinite(replay.read("pressfc", replay.times[:1])).all()
    with pytest.raises(UserError, match=r"pressfc at 1993-12-31T18 could not be read.*gone for good.*repeat"):
        replay.read("pressfc", replay.times[:1])


def test_the_outline_of_the_embedded_world_is_the_world_that_is_made() -> None:
    from graphufs.replay.synthetic.world import IdealisedWorld

    outline = embedded_outline(np.datetime64("1994-02-01T00"))
    model = IdealisedWorld()
    longitude, latitude = model.axes
    assert np.allclose(outline.latitude, np.asarray(latitude)[::-1], atol=1e-6)
    assert np.allclose(outline.longitude, longitude)
    assert np.allclose(outline.levels("pfull"), np.asarray(model.geometry.sigma).ravel() * 1000, rtol=1e-6)
    assert {"tmp", "pressfc", "land_static", "dswrf_avetoa"} <= set(outline.names)
    assert outline.times[-1] >= np.datetime64("1994-02-01T00")
