"""Whether a source is still the one that data were prepared from, whatever its address says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphufs.config.experiment import Experiment
from graphufs.data.manifest import COPY, MANIFEST, Manifest
from graphufs.data.preflight import preflight
from graphufs.data.prepare import run
from graphufs.errors import UserError
from graphufs.steps import never_stop, no_progress
from graphufs.storage.checksums import CHECKED, CHECKSUM
from graphufs.storage.paths import Paths
from tests.support.experiments import experiment
from tests.support.lookalike import build_atmosphere, rewrite

SOME = ("pressfc", "ugrd10m")


def build(path: Path, **settings: Any) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return build_atmosphere(path, count=48, step_hours=6, variables=SOME, **settings)


def chosen(store: Path, **settings: Any) -> Experiment:
    return experiment(store, inputs=SOME, targets=SOME, forcings=[], levels=[], **settings)


def shorter(store: Path) -> Experiment:
    """Some stamps fewer, in the same folder."""
    return chosen(store, evaluation=("1994-01-09T00", "1994-01-10T18"))


def prepare(wanted: Experiment, root: Path) -> dict[str, Any]:
    return run(wanted, root, progress=no_progress, should_stop=never_stop)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return build(tmp_path / "fv3.zarr")


@pytest.mark.parametrize(
    "change",
    [
        {"units": "Pascal"},
        {"long_name": "pressure of another model"},
        {"scale_factor": 1.0, "add_offset": 0.0},
    ],
    ids=str,
)
def test_other_metadata_are_found_also_where_all_is_prepared(
    change: dict[str, Any], store: Path, tmp_path: Path
) -> None:
    wanted = chosen(store)
    prepare(wanted, tmp_path)
    rewrite(store, "pressfc", **change)
    for step in (prepare, preflight):
        with pytest.raises(UserError, match=r"has changed since .* was prepared: .* pressfc.*remove that folder"):
            step(wanted, tmp_path)


def test_another_grid_at_the_same_address_is_found(store: Path, tmp_path: Path) -> None:
    wanted = chosen(store)
    prepare(wanted, tmp_path)
    build(store, latitudes=10, longitudes=20)
    with pytest.raises(UserError, match=r"has changed since .*: .* grid_xt, grid_yt"):
        prepare(wanted, tmp_path)


def test_other_weather_with_the_same_metadata_is_not_mixed_in(store: Path, tmp_path: Path) -> None:
    prepare(shorter(store), tmp_path)
    build(store, seed=3)
    before = Manifest.read(Paths(shorter(store), tmp_path).data)
    with pytest.raises(UserError, match=r"the values of pressfc at 1994-01-10T18"):
        prepare(chosen(store), tmp_path)
    after = Manifest.read(Paths(shorter(store), tmp_path).data)
    assert before is not None and after is not None and np.array_equal(before.stamps, after.stamps)


def test_a_source_that_grew_is_the_same(store: Path, tmp_path: Path) -> None:
    shutil.rmtree(store)
    build_atmosphere(store, count=45, step_hours=6, variables=SOME)
    prepare(shorter(store), tmp_path)
    build(store)
    assert prepare(chosen(store), tmp_path)["new"] == 4


def test_what_is_prepared_needs_its_source_no_more(store: Path, tmp_path: Path) -> None:
    prepare(chosen(store), tmp_path)
    shutil.rmtree(store)
    assert prepare(chosen(store), tmp_path)["status"] == "unchanged"


def without_digests(folder: Path) -> None:
    """As an earlier version wrote it."""
    content = json.loads((folder / MANIFEST).read_text())
    assert content["source"]
    kept = content.keys() - {"source", "static_files", CHECKED, CHECKSUM}
    (folder / MANIFEST).write_text(json.dumps({name: content[name] for name in content if name in kept}))
    (folder / COPY).unlink(missing_ok=True)


def test_data_of_before_are_compared_by_their_values_and_noted_with_the_next(store: Path, tmp_path: Path) -> None:
    wanted, folder = chosen(store), Paths(chosen(store), tmp_path).data
    prepare(shorter(store), tmp_path)
    noted = Manifest.read(folder)
    without_digests(folder)
    before = (folder / MANIFEST).read_bytes()
    assert prepare(shorter(store), tmp_path)["status"] == "unchanged"
    assert (folder / MANIFEST).read_bytes() == before
    assert prepare(wanted, tmp_path)["new"] == 4
    again = Manifest.read(folder)
    assert noted is not None and again is not None and again.header.source == noted.header.source
    without_digests(folder)
    build(store, seed=3)
    with pytest.raises(UserError, match="the values of pressfc at 1994-01-11T18"):
        prepare(wanted, tmp_path)


def test_data_of_before_that_were_read_in_other_units_are_found(store: Path, tmp_path: Path) -> None:
    wanted = chosen(store, accept_implausible=["pressfc"])
    rewrite(store, "pressfc", lambda values: values / 100, units="silent hectopascals")
    prepare(wanted, tmp_path)  # as before units were read
    without_digests(Paths(wanted, tmp_path).data)
    rewrite(store, "pressfc", units="hPa")
    with pytest.raises(UserError, match="the values of pressfc"):
        prepare(chosen(store), tmp_path)
