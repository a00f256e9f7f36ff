"""The embedded world: its layout is Replay's, its fields fit together, and it survives being killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from graphufs.config.data import World
from graphufs.errors import Stopped, UserError
from graphufs.replay.synthetic import astronomy, geography, growing_zarr, physics, store
from graphufs.replay.synthetic.replay_layout import LEVEL_FIELDS, SURFACE_FIELDS, WORLD_START
from graphufs.replay.synthetic.start import START
from graphufs.replay.synthetic.store import ensure_world
from graphufs.replay.synthetic.world import WorldState, arithmetic, shared_model
from graphufs.steps import Event
from graphufs.storage.lock import LOCK

DAYS_10 = np.datetime64("1994-01-10T12")
DAYS_20 = np.datetime64("1994-01-20T12")
GAS_CONSTANT, GRAVITY = 1004 * 2 / 7, 9.80616


HALTING = """
import os, sys
from pathlib import Path
import numpy as np
from graphufs.config.data import World
from graphufs.replay.synthetic.store import ensure_world

replace, calls = os.replace, 0

def halting_replace(path, target):
    global calls
    calls += 1
    if calls == 10:
        print("halted", flush=True)
        sys.stdin.readline()
    return replace(path, target)

os.replace = halting_replace
ensure_world(Path(sys.argv[1]), World(), np.datetime64("1994-01-20T12"))
"""


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """The folder of ten days of a world stopped while on its way to twenty, and the events it sent."""
    folder, events = tmp_path_factory.mktemp("half"), []
    with pytest.raises(Stopped, match="10 days"):
        ensure_world(folder, World(), DAYS_20, progress=events.append, should_stop=lambda: len(events) > 0)
    return folder, events


@pytest.fixture(scope="module")
def halting(
    half: tuple[Path, list[Event]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A process that goes on with a copy of `half` and halts in the midst of writing the second block."""
    folder = Path(shutil.copytree(half[0], tmp_path_factory.mktemp("halting") / "world"))
    process = subprocess.Popen(
        [sys.executable, "-c", HALTING, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield folder, process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def world(halting: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of twenty days of the world with seed 0, made in one call. Not to be written to.

    It asks for `halting` only to have that process load while other tests run.
    """
    folder = tmp_path_factory.mktemp("world")
    ensure_world(folder, World(), DAYS_20)
    return folder


@pytest.fixture(scope="module")
def second_block(half: tuple[Path, list[Event]]) -> tuple[WorldState, dict[str, Any]]:
    """What the model makes of the second ten days."""
    with arithmetic(), (half[0] / "state-00001.npz").open("rb") as file:
        return shared_model().run(WorldState.load(file), START + np.timedelta64(10, "D"), 40)


@pytest.fixture(scope="module")
def data(world: Path) -> xr.Dataset:
    with xr.open_zarr(world / "fv3.zarr", consolidated=True) as dataset:
        return dataset.load()


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a world but its lock, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def area_mean(field: Any) -> np.ndarray:
    """Mean over [..., lat, lon] of the world's grid with Gaussian weights."""
    weights = np.polynomial.legendre.leggauss(32)[1]
    return (np.asarray(field, np.float64).mean(axis=-1) * weights).sum(axis=-1) / weights.sum()


# layout ---------------------------------------------------------------------------------------------------------------


def test_the_store_is_zarr_2_with_consolidated_metadata_and_nested_chunks_of_forty_stamps(world: Path) -> None:
    metadata = json.loads((world / "fv3.zarr/.zmetadata").read_text())["metadata"]
    assert metadata[".zgroup"] == {"zarr_format": 2}
    assert metadata["tmp/.zarray"]["chunks"] == [40, 8, 32, 64]
    assert metadata["pressfc/.zarray"]["chunks"] == [40, 32, 64]
    assert (world / "fv3.zarr/tmp/1/0/0/0").exists()


def test_dimensions_coordinates_and_dtypes_are_those_of_replay(data: xr.Dataset) -> None:
    for name in LEVEL_FIELDS:
        assert data[name].dims == ("time", "pfull", "grid_yt", "grid_xt")
        assert data[name].dtype == np.float32
    for name in SURFACE_FIELDS:
        assert data[name].dims == ("time", "grid_yt", "grid_xt")
        assert data[name].dtype == np.float32
    assert data.hgtsfc_static.dims == data.land_static.dims == ("grid_yt", "grid_xt")
    assert (data.hgtsfc_static.dtype, data.land_static.dtype) == (np.float32, np.int32)
    assert data.pfull.dtype == np.float32
    assert data.pfull.values.tolist() == [30, 105, 215, 360, 525, 695, 845, 955]
    assert data.pfull.attrs["units"] == "mb"
    assert set(data.coords) == {"time", "cftime", "ftime", "pfull", "grid_yt", "grid_xt"}


def test_the_grid_is_gaussian_from_north_to_south_and_from_greenwich_eastwards(data: xr.Dataset) -> None:
    nodes = np.polynomial.legendre.leggauss(32)[0]
    np.testing.assert_allclose(data.grid_yt, np.rad2deg(np.arcsin(nodes))[::-1], atol=1e-10)
    np.testing.assert_allclose(data.grid_xt, np.arange(64) * 5.625, atol=1e-10)


def test_stamps_are_every_six_hours_from_replays_first_and_cover_what_was_asked(data: xr.Dataset) -> None:
    assert data.time.values[0] == WORLD_START == np.datetime64("1993-12-31T18")
    assert (np.diff(data.time.values) == np.timedelta64(6, "h")).all()
    assert DAYS_20 <= data.time.values[-1] < DAYS_20 + np.timedelta64(10, "D")


def test_the_extra_time_coordinates_have_replays_awkward_types(data: xr.Dataset) -> None:
    first = data.cftime.values[0]
    assert first.calendar == "julian"
    assert (first.year, first.month, first.day, first.hour) == (1993, 12, 31, 18)
    assert data.ftime.dtype == np.dtype("timedelta64[ns]")
    assert {"cftime", "ftime"}.isdisjoint(data.indexes)


def test_attributes_are_spelt_as_in_replay(data: xr.Dataset) -> None:
    wanted = {
        "tmp": ("temperature", "K", "dyn"),
        "ugrd": ("zonal wind", "m/sec", "dyn"),
        "dpres": ("pressure thickness", "pa", "dyn"),
        "pressfc": ("surface pressure", "Pa", "phy"),
        "dswrf_avetoa": ("top of atmos downward shortwave flux", "W/m**2", "phy"),
        "hgtsfc_static": ("surface geopotential height", "m", "dyn"),
    }
    found = {name: tuple(data[name].attrs[key] for key in ("long_name", "units", "output_file")) for name in wanted}
    assert found == wanted


def test_the_store_says_that_it_is_no_weather_and_what_made_it(data: xr.Dataset, world: Path) -> None:
    assert "idealised" in data.attrs["title"]
    assert "not weather" in data.attrs["description"]
    assert json.loads(data.attrs["configuration"]) == {"seed": 0}
    note = json.loads((world / "world.json").read_text())
    assert {"graphufs", "dinosaur", "jaxlib"} <= set(note["versions"])


def test_readers_without_consolidated_metadata_see_the_same(world: Path, data: xr.Dataset) -> None:
    with xr.open_zarr(world / "fv3.zarr", consolidated=False) as other:
        assert other.identical(data)


# fields ---------------------------------------------------------------------------------------------------------------


def test_every_field_is_finite_and_of_the_earths_magnitude(data: xr.Dataset) -> None:
    bounds = {
        "tmp": (170, 320),
        "ugrd": (-120, 120),
        "vgrd": (-100, 100),
        "spfh": (0, 0.04),
        "pressfc": (5e4, 1.1e5),
        "tmp2m": (190, 330),
        "tmpsfc": (190, 330),
        "spfh2m": (0, 0.04),
        "ugrd10m": (-50, 50),
        "vgrd10m": (-50, 50),
        "prateb_ave": (0, 5e-3),
        "dswrf_avetoa": (0, 1420),
        "hgtsfc": (-300, 4000),
    }
    for name in [*LEVEL_FIELDS, *SURFACE_FIELDS]:
        assert np.isfinite(data[name].values).all(), name
    for name, (low, high) in bounds.items():
        assert low <= data[name].values.min() and data[name].values.max() <= high, name
    # warmest at the ground, weather in middle latitudes stronger than in the tropics
    assert (np.diff(data.tmp.mean(("time", "grid_yt", "grid_xt")).values[1:]) > 0).all()
    spread = data.pressfc.std("time").mean("grid_xt")
    assert spread.where(abs(data.grid_yt) > 40).mean() > 3 * spread.where(abs(data.grid_yt) < 20).mean()


def test_layer_thicknesses_are_hydrostatic_and_add_up_to_the_surface_pressure(data: xr.Dataset) -> None:
    thickness = data.dpres.values.astype(np.float64)
    np.testing.assert_allclose(thickness.sum(axis=1), data.pressfc.values, atol=0.6)
    interfaces = np.cumsum(thickness, axis=1)
    logarithms = np.log(interfaces[:, 1:] / interfaces[:, :-1])
    hypsometric = -GAS_CONSTANT / GRAVITY * data.tmp.values[:, 1:] * logarithms
    np.testing.assert_allclose(data.delz.values[:, 1:], hypsometric, rtol=3e-4)
    assert (data.delz.values < 0).all()
    top = thickness[:, 0] * GAS_CONSTANT * data.tmp.values[:, 0] / (-GRAVITY * data.delz.values[:, 0])
    np.testing.assert_allclose(top, 0.03 * data.pressfc.values, rtol=3e-4)


def test_the_atmosphere_keeps_its_mass(data: xr.Dataset) -> None:
    assert np.ptp(area_mean(data.pressfc)) < 2.0


def test_the_sun_shines_as_the_mean_of_the_three_hours_before_the_stamp(data: xr.Dataset) -> None:
    latitude, longitude = np.deg2rad(data.grid_yt.values)[:, None], np.deg2rad(data.grid_xt.values)
    for index in (0, 1, 2, 3, 42):
        minutes = np.arange(-179.5, 0) * np.timedelta64(60, "s")[None]
        instants = data.time.values[index] + minutes
        day = (instants - np.datetime64("1994-01-01")) / np.timedelta64(1, "D")
        declination = np.deg2rad(23.45) * np.sin(2 * np.pi * (day / 365 - 80 / 365.25))
        hour = (2 * np.pi * day)[:, None, None] + longitude - np.pi
        sine, cosine = np.sin(declination)[:, None, None], np.cos(declination)[:, None, None]
        zenith = np.sin(latitude) * sine + np.cos(latitude) * cosine * np.cos(hour)
        expected = 1361 * 1.0334 * np.maximum(0, zenith).mean(axis=0)  # near perihelion
        np.testing.assert_allclose(data.dswrf_avetoa.values[index], expected, atol=3.0)
        dark = (zenith < -0.01).all(axis=0)
        assert dark.sum() > 200
        assert (data.dswrf_avetoa.values[index][dark] == 0).all()
    # global mean of S0 / 4 at perihelion
    assert area_mean(data.dswrf_avetoa).mean() == pytest.approx(1361 * 1.033 / 4, rel=0.01)


def test_it_rains_about_a_millimetre_a_day(data: xr.Dataset) -> None:
    assert 0.5 < area_mean(data.prateb_ave.mean("time")) * 86400 < 3


def test_land_warms_by_day_and_the_sea_does_not(data: xr.Dataset) -> None:
    tropics = data.isel(grid_yt=abs(data.grid_yt) < 40)
    cycle = tropics.tmp2m.groupby("time.hour").mean()
    swing = cycle.max("hour") - cycle.min("hour")
    assert 4 < swing.where(tropics.land_static == 1).mean() < 14
    assert swing.where(tropics.land_static == 0).mean() < 1


def test_the_land_mask_tells_sea_land_and_ice(data: xr.Dataset) -> None:
    first = data.land.isel(time=0)
    assert set(np.unique(data.land.values)) == {0, 1, 2}
    assert ((first == 1) == (data.land_static == 1)).all()
    assert (abs(data.grid_yt.where(data.land == 2)).min() > 55).item()
    assert 0.25 < area_mean(data.land_static) < 0.33


def test_pressure_falls_with_the_height_of_the_ground(data: xr.Dataset) -> None:
    np.testing.assert_array_equal(data.hgtsfc.values, np.broadcast_to(data.hgtsfc_static.values, data.hgtsfc.shape))
    highest = data.hgtsfc_static.argmax(("grid_yt", "grid_xt"))
    assert data.hgtsfc_static[highest] > 3000
    assert data.pressfc[highest].mean() < 7.2e4


def test_values_are_rounded_as_their_attributes_say(data: xr.Dataset) -> None:
    for name in ("tmp", "ugrd", "spfh", "pressfc"):
        steps = data[name].values.astype(np.float64) / (2 * data[name].attrs["max_abs_compression_error"])
        assert (steps == np.round(steps)).all(), name
    assert data.tmp.attrs["max_abs_compression_error"] < 0.005
    assert len(np.unique(data.spfh.values[:, 0])) > 10  # the driest level keeps its variability


# growing --------------------------------------------------------------------------------------------------------------


def test_progress_is_told_in_simulated_days(half: tuple[Path, list[Event]]) -> None:
    assert half[1] == [Event("embedded world", 0.0, 20.0, "simulated days")]


def test_a_stopped_world_keeps_its_blocks_and_goes_on_to_the_same_bits_as_one_call(
    half: tuple[Path, list[Event]], world: Path, copy: Callable[[Path], Path]
) -> None:
    folder, events = copy(half[0]), []
    assert growing_zarr.committed_length(folder / "fv3.zarr") == 40
    ensure_world(folder, World(), DAYS_20, progress=events.append)
    assert contents(folder) == contents(world)
    assert [event.done for event in events] == [10.0, 20.0]


def test_a_world_that_grows_by_days_computes_whole_blocks_but_shows_no_more_than_asked_for(
    half: tuple[Path, list[Event]], world: Path, data: xr.Dataset, copy: Callable[[Path], Path]
) -> None:
    folder, events, hour = copy(half[0]), [], np.timedelta64(1, "h")
    assert store.present(folder) == DAYS_20 - 240 * hour
    for stamps in (44, 48, 76):
        until = DAYS_20 - (80 - stamps) * 6 * hour
        ensure_world(folder, World(), until, exact=True, progress=events.append)
        assert store.present(folder) == until
        with xr.open_zarr(folder / "fv3.zarr") as grown:
            assert grown.identical(data.isel(time=slice(0, stamps)))
        ensure_world(folder, World(), until)  # as prepare asks for it: nothing is to be done
        assert store.present(folder) == until
    assert [event.done for event in events] == [10.0, 20.0]  # one simulation for all
    ensure_world(folder, World(), DAYS_20)
    assert contents(folder) == contents(world)


def test_a_world_that_is_long_enough_is_left_alone_and_loads_no_jax(world: Path) -> None:
    before = contents(world)
    code = """
        import sys, pathlib, numpy
        from graphufs.config.data import World
        from graphufs.replay.synthetic.store import ensure_world
        assert "numpy" in sys.modules and "zarr" not in sys.modules
        ensure_world(pathlib.Path(sys.argv[1]), World(), numpy.datetime64("1994-01-20T12", "ns"))
        print("jax" in sys.modules, "dinosaur" in sys.modules)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(world)], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]
    assert contents(world) == before


@pytest.mark.long
def test_killed_in_the_midst_of_a_block_it_loses_only_that_block(
    halting: tuple[Path, subprocess.Popen[str]], world: Path, data: xr.Dataset
) -> None:
    folder, process = halting
    assert process.stdout is not None
    assert process.stdout.readline() == "halted\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (folder / "fv3.zarr/tmp/1/0/0/0").exists()
    with xr.open_zarr(folder / "fv3.zarr") as survivor:
        assert survivor.identical(data.isel(time=slice(0, 40)))
    ensure_world(folder, World(), DAYS_20)
    assert contents(folder) == contents(world)


class Crash(BaseException):
    """Stands for the death of the process."""


def test_death_before_any_file_of_a_block_is_in_place_is_harmless(
    half: tuple[Path, list[Event]],
    second_block: tuple[WorldState, dict[str, Any]],
    world: Path,
    copy: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, before = copy(half[0]), contents(half[0])
    with arithmetic():
        monkeypatch.setattr(shared_model(), "run", lambda *arguments: second_block)
    written, die_before = [], ""
    replace = os.replace

    def dying_replace(path: Path, target: Path) -> None:
        if target.name == die_before or target.parent.name == die_before:
            raise Crash
        written.append(target)
        replace(path, target)

    monkeypatch.setattr(os, "replace", dying_replace)
    # in the order of writing: two chunks, the state, the separate metadata, the commit
    for die_before in ("cftime", "land", "state-00002.npz", ".zgroup", ".zattrs", ".zmetadata"):
        written.clear()
        with pytest.raises(Crash):
            ensure_world(folder, World(), DAYS_20)
        assert die_before == "cftime" or written
        now = contents(folder)
        assert all(now[name] == before[name] for name in before if not name.endswith((".zarray", "checksums.json")))
        with xr.open_zarr(folder / "fv3.zarr") as survivor:
            assert survivor.sizes["time"] == 40
    die_before = "nothing"
    written.clear()
    ensure_world(folder, World(), DAYS_20)
    assert written[-1].name == ".zmetadata"
    assert contents(folder) == contents(world)


def test_a_second_process_waits_for_the_first_and_takes_its_world(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setattr(store, "_extend", lambda *arguments: pytest.fail("computed what the other process had made"))
    results: list[Path] = []
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Stopped, match="another process"):
            ensure_world(folder, World(), DAYS_20, should_stop=lambda: True)
        waiting = threading.Thread(target=lambda: results.append(ensure_world(folder, World(), DAYS_20)))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        shutil.copytree(world / "fv3.zarr", folder / "fv3.zarr")
    waiting.join(10)
    assert results == [folder / "fv3.zarr"]


# steps of two hours ---------------------------------------------------------------------------------------------------


@pytest.mark.long  # another model to compile
def test_a_world_with_steps_of_two_hours_is_another_one_and_as_sound(data: xr.Dataset, tmp_path: Path) -> None:
    folder = ensure_world(tmp_path, World(step=2), DAYS_10)
    with xr.open_zarr(folder) as other:
        assert json.loads(other.attrs["configuration"]) == {"seed": 0, "step": "2h"}
        first, there = other.isel(time=slice(0, 4)).load(), data.isel(time=slice(0, 4))
    # the same sun to the error of hourly means, the same weather while it is young, and as much rain
    np.testing.assert_allclose(first.dswrf_avetoa, there.dswrf_avetoa, atol=0.5)
    assert 0 < np.abs(first.tmp - there.tmp).max() < 1
    assert np.abs(first.pressfc - there.pressfc).mean() < 30
    rain = [area_mean(one.prateb_ave.mean("time")) for one in (first, there)]
    assert rain[0] == pytest.approx(rain[1], rel=0.02)
    with pytest.raises(UserError, match="holds the world"):
        ensure_world(tmp_path, World(), DAYS_10)


# seeds and errors -----------------------------------------------------------------------------------------------------


@pytest.mark.long  # a world of its own
def test_another_seed_is_another_weather_from_the_first_stamp(data: xr.Dataset, tmp_path: Path) -> None:
    with xr.open_zarr(ensure_world(tmp_path, World(seed=3), DAYS_10)) as other:
        here, there = (x.pressfc.isel(grid_yt=(x.grid_yt > 35) & (x.grid_yt < 65)).load() for x in (data, other))
        first = np.sqrt(((here - there).isel(time=0) ** 2).mean())
        spread = np.sqrt(((here - here.mean("time")) ** 2).mean())
        assert first > spread
        # as lively as the other, and of the same climate
        assert 0.5 < (there.std("time").mean() / here.std("time").mean()) < 2
        zonal = (x.tmp.isel(time=slice(0, 40)).mean(("time", "grid_xt")) for x in (data, other))
        assert abs(next(zonal) - next(zonal)).mean() < 2
        assert abs(other.ugrd).max() < 120
    assert json.loads((tmp_path / "world.json").read_text())["world"] == {"seed": 3}


def test_another_worlds_folder_is_refused(world: Path) -> None:
    with pytest.raises(UserError, match=r"seed.*0.*seed.*1"):
        ensure_world(world, World(seed=1), DAYS_20)


def test_a_time_before_the_worlds_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1993-12-31T18"):
        ensure_world(tmp_path, World(), np.datetime64("1993-12-31T12"))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tmp", lambda field: field.at[3, 2, 1, 1].set(jnp.nan), "tmp is not finite"),
        ("pressfc", lambda field: field + 100, "mean surface pressure is off by"),
        ("ugrd", lambda field: field * 10, "winds reach"),
    ],
)
def test_an_unstable_model_is_an_error_and_commits_nothing(
    half: tuple[Path, list[Event]],
    second_block: tuple[WorldState, dict[str, Any]],
    copy: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Any], Any],
    message: str,
) -> None:
    folder = copy(half[0])
    before = contents(folder)
    state, fields = second_block
    with arithmetic():
        broken = fields | {name: change(fields[name])}
        monkeypatch.setattr(shared_model(), "run", lambda *arguments: (state, broken))
    with pytest.raises(UserError, match=f"{message}.*days 10 to 20.*seed"):
        ensure_world(folder, World(), DAYS_20)
    assert contents(folder) == before


# astronomy, geography, physics ----------------------------------------------------------------------------------------


def test_the_hours_of_a_day_average_to_the_daily_mean() -> None:
    latitude = jnp.linspace(-1.5, 1.5, 13)
    for year in (0.3, 1.4, 4.5):
        angle, length = jnp.float32(year), 2 * np.pi / 24
        hours = [astronomy.mean_cosine(latitude, 0.7, angle, jnp.float32(k * length), length) for k in range(24)]
        daily = astronomy.daily_mean_cosine(latitude, angle)
        np.testing.assert_allclose(np.mean(hours, axis=0), daily, atol=1e-6)


def test_the_pole_has_no_day_in_winter_and_no_night_in_summer() -> None:
    december = jnp.float32(astronomy.year_angle(np.datetime64("1994-12-21T12")))
    north, south = jnp.float32(np.deg2rad(85)), jnp.float32(np.deg2rad(-85))
    for hour in np.arange(24) * 2 * np.pi / 24:
        assert astronomy.mean_cosine(north, 1.0, december, jnp.float32(hour), 0.26) == 0
        assert astronomy.mean_cosine(south, 1.0, december, jnp.float32(hour), 0.26) > 0.2


def test_the_year_is_one_turn_whether_leap_or_not() -> None:
    for year in (1995, 1996):
        times = np.datetime64(f"{year}-01-01T00") + np.arange(366 * 24) * np.timedelta64(1, "h")
        angle = astronomy.year_angle(times[times < np.datetime64(f"{year + 1}-01-01")])
        assert angle[0] == 0
        assert angle[-1] == pytest.approx(2 * np.pi, abs=1e-3)
        assert (np.diff(angle) > 0).all()


def test_the_sun_is_furthest_north_at_the_june_solstice() -> None:
    times = np.datetime64("1995-01-01T12") + np.arange(365) * np.timedelta64(1, "D")
    declination = astronomy.declination(jnp.asarray(astronomy.year_angle(times)))
    assert abs(times[declination.argmax()] - np.datetime64("1995-06-21T12")) <= np.timedelta64(2, "D")
    assert np.rad2deg(declination.max()) == pytest.approx(23.45, abs=0.01)


def test_continents_and_mountains_stand_where_the_earth_has_them() -> None:
    places = {
        (10, 25): 1,
        (100, 60): 1,
        (265, 45): 1,
        (133, -25): 1,
        (0, -85): 1,
        (200, 0): 0,
        (330, 30): 0,
        (80, -30): 0,
    }
    for (longitude, latitude), land in places.items():
        assert geography.land_fraction(longitude, latitude) == pytest.approx(land, abs=0.1)
    assert geography.mountains(85, 33) > 4000
    assert geography.mountains(200, 0) == pytest.approx(0, abs=1)


def test_saturation_humidity_agrees_with_tables() -> None:
    # Saturation vapour pressure over water: 611.2 Pa at 0 C, 2339 Pa at 20 C, 4247 Pa at 30 C (Smithsonian tables)
    for celsius, vapour in ((0, 611.2), (20, 2339.0), (30, 4247.0)):
        expected = 0.622 * vapour / (1e5 - 0.378 * vapour)
        found = physics.saturation_humidity(jnp.float32(273.15 + celsius), 1e5)
        assert found == pytest.approx(expected, rel=5e-3)


def test_sea_ice_reaches_further_in_winter() -> None:
    geometry = physics.Geometry(
        longitude=np.zeros((1, 2), np.float32),
        latitude=np.deg2rad(np.array([[67.0, -67.0]], np.float32)),
        land=np.zeros((1, 2), np.float32),
        height=np.zeros((1, 2), np.float32),
        sigma=np.ones((1, 1, 1), np.float32),
        thickness=np.ones((1, 1, 1), np.float32),
    )
    march = physics.sea_ice(geometry, jnp.float32(astronomy.year_angle(np.datetime64("1995-02-20"))))[0]
    august = physics.sea_ice(geometry, jnp.float32(astronomy.year_angle(np.datetime64("1995-08-05"))))[0]
    assert march[0] > 0.8 > 0.3 > march[1]
    assert august[1] > 0.8 > 0.3 > august[0]
