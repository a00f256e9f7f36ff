"""Published forecasts: whole folders by date with the values of the store, kept, checked, removed, and catalogued."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import cfgrib
import numpy as np
import pystac
import pytest
import xarray as xr
from pystac.validation import validate_dict

from graphufs.cli.clean import tidy
from graphufs.cli.main import main
from graphufs.cli.verify import verify
from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.housekeeping.retention import Retention
from graphufs.products import stac
from graphufs.steps import CHAINS, run_step, with_products
from graphufs.storage.checksums import CHECKSUMS, crc32
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import open_zarr
from tests.conftest import TINY
from tests.support.killing import Halted

FORMATS = "forecast.products=[netcdf, grib2, zarr]"


@pytest.fixture(scope="module")
def published(finished_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """A root with tiny's forecasts published in all formats, the folder of its model, and the step's result."""
    root = Path(shutil.copytree(finished_root, tmp_path_factory.mktemp("published") / "root"))
    result = run_step("publish", loading.load(TINY, [FORMATS]), root)
    return root, root / result["published"], result


def folders(model: Path) -> list[str]:
    return sorted(path.relative_to(model).as_posix() for path in model.glob("[0-9]*/*"))


def test_each_initial_time_has_a_folder_with_the_values_of_the_store(published, tiny):
    root, model, result = published
    store = open_zarr(Paths(tiny, root).forecasts)
    times = store["time"].values
    assert result["status"] == "completed" and result["new"] == result["initial_times"] == len(times)
    assert model.name.startswith("tiny-") and model.name.endswith("-16")
    assert folders(model) == [str(time.astype("datetime64[h]")).replace("-", "").replace("T", "/") for time in times]
    first = model / folders(model)[0]
    assert sorted(path.name for path in first.iterdir()) == [
        *("1994011306.grib2", "1994011306.nc", "1994011306.zarr", CHECKSUMS)
    ]
    for number, name in enumerate(folders(model)):
        ours, stem = store.isel(time=number), name.replace("/", "")
        with xr.open_dataset(model / name / f"{stem}.nc") as netcdf:
            np.testing.assert_array_equal(netcdf["temperature"], ours["temperature"])
            np.testing.assert_array_equal(netcdf["surface_pressure"], ours["surface_pressure"])
        with xr.open_zarr(model / name / f"{stem}.zarr", chunks=None) as zarr:
            np.testing.assert_array_equal(zarr["temperature"][0], ours["temperature"])
    by_level = {kind: one for one in cfgrib.open_datasets(first / "1994011306.grib2", indexpath="") for kind in one}
    pressure = store["surface_pressure"].isel(time=0)
    error = np.abs(by_level["sp"]["sp"].values - pressure.sortby("latitude", ascending=False).values)
    assert error.max() <= float(pressure.max() - pressure.min()) / 2**16


def test_what_is_published_stays_until_it_would_be_another(published, copy_of_root):
    root = copy_of_root(published[0])
    model = root / "published" / published[1].name
    same = loading.load(TINY, ["forecast.products=[zarr, netcdf, grib2]"])
    assert run_step("publish", same, root)["status"] == "unchanged"
    shutil.rmtree(model / folders(model)[0])
    (model / folders(model)[1] / CHECKSUMS).unlink()
    assert run_step("publish", same, root)["new"] == 2
    fewer = loading.load(TINY, ["forecast.products=[netcdf]", "forecast.products_grid=12x7"])
    assert run_step("publish", fewer, root)["new"] == len(folders(model))
    assert [path.suffix for path in sorted((model / folders(model)[0]).iterdir())] == [".nc", ".json"]
    with xr.open_dataset(next(model.glob("*/*/*.nc"))) as netcdf:
        assert netcdf["temperature"].shape[-2:] == (7, 12)


def test_a_process_that_is_killed_leaves_no_half_folder_and_what_it_leaves_goes(finished_root, copy_of_root):
    root, experiment = copy_of_root(finished_root), loading.load(TINY, ["forecast.products=[netcdf, zarr]"])
    # between the NetCDF file of the third initial time and its zarr store
    Halted("publish", experiment, root, "graphufs.products.publish", "convert", 6).kill()
    model = next((root / "published").iterdir())
    whole = [name for name in folders(model) if "/." not in name]
    assert len(whole) == 2 and all((model / name / CHECKSUMS).exists() for name in whole)
    left = next(model.glob("*/.*.tmp"))
    assert [path.suffix for path in left.iterdir()] == [".nc"]
    assert run_step("publish", experiment, root)["new"] == len(folders(model)) - 2
    assert not left.exists()


def test_a_changed_byte_is_named_with_what_repairs_it(published, copy_of_root, tiny):
    root = copy_of_root(published[0])
    assert verify(tiny, root).kinds["published forecasts"][0] == published[2]["initial_times"]
    file = next((root / "published").rglob("*.grib2"))
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    (line,) = verify(tiny, root).damaged
    assert str(file) in line and "`graphufs publish`" in line


def test_it_goes_when_it_is_old_and_the_catalogue_follows(published, copy_of_root):
    root = copy_of_root(published[0])
    old = time.time() - 31 * 86400
    folder = next((root / "published").glob("*/19940113/06"))
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (old, old))
    found = tidy(root, Retention(forecasts=1000), yes=True)
    assert [one["path"] for one in found["removable"] if one["kind"] == "published forecasts"] == [str(folder)]
    assert not folder.exists() and not found["failed"]
    assert not list((root / "stac").rglob("*1994011306.json")) and list((root / "stac").rglob("*1994011406.json"))


def test_the_catalogue_is_valid_stac_and_its_links_lead_to_what_is_there(published, capsys):
    root = published[0]
    with pytest.raises(SystemExit) as ended:
        main(["catalogue", "--root", str(root), "--json"])
    assert ended.value.code == 0
    made = json.loads(capsys.readouterr().out)
    assert made["collections"] == 1 and made["items"] == 1 + published[2]["initial_times"]
    catalogue = pystac.Catalog.from_file(made["catalogue"])
    collection = next(catalogue.get_children())
    items = list(collection.get_items())
    assert collection.id == "tiny" and len(items) == made["items"]
    for one in (catalogue, collection, *items):
        plain = {**json.loads(Path(one.self_href).read_text()), "stac_extensions": []}  # whose schemas lie elsewhere
        validate_dict(plain)
    item = next(one for one in items if one.id.endswith("1994011306"))
    assert item.bbox[0] == -180 and item.bbox[2] == 180 and -90 < item.bbox[1] < -80
    assert item.properties["start_datetime"] == "1994-01-13T12:00:00Z"
    assert item.properties["end_datetime"] == "1994-01-14T06:00:00Z"
    for one in items:
        for asset in one.assets.values():
            assert not Path(asset.href).is_absolute() and Path(asset.get_absolute_href()).exists()
            if "file:checksum" in asset.extra_fields:
                file = Path(asset.get_absolute_href())
                assert asset.extra_fields["file:checksum"] == f"b20204{crc32(file):08x}"
                assert asset.extra_fields["file:size"] == file.stat().st_size


def test_a_grid_of_a_part_of_the_globe_has_its_own_box():
    assert stac._bbox(np.array([25.0, 50.0]), np.array([235.0, 264.0, 293.0])) == [-125.0, 25.0, -67.0, 50.0]
    assert stac._bbox(np.array([-89.0, 89.0]), np.arange(0, 360, 10.0)) == [-180.0, -89.0, 180.0, 89.0]


def test_chains_publish_where_an_experiment_asks_for_it(tiny, tmp_path):
    asking = loading.load(TINY, [FORMATS])
    for chain in (CHAINS["run"], CHAINS["nightly"]):
        with_it = with_products(chain, asking)
        assert with_it[with_it.index("forecast") + 1] == "publish" and with_products(chain, tiny) == chain
    assert with_products(CHAINS["retrain"], asking) == CHAINS["retrain"]
    assert with_products(["forecast"], asking) == ("forecast",)
    with pytest.raises(UserError, match=r"names no format to publish; there are netcdf, grib2 and zarr"):
        run_step("publish", tiny, tmp_path)
