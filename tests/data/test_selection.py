from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphufs.config.experiment import Experiment
from graphufs.data.channels import PreparedChannel
from graphufs.data.preflight import preflight
from graphufs.data.prepare import check
from graphufs.errors import UserError
from graphufs.replay.source import open_store
from tests.support.experiments import experiment, ocean_experiment
from tests.support.lookalike import build_atmosphere


def refuse(chosen: Experiment, message: str) -> None:
    source = chosen.data.source
    with pytest.raises(UserError, match=message):
        check(open_store(source.url, source.component), chosen)


def test_channels_are_sorted_by_variable_and_level_with_their_native_values(store: Path) -> None:
    selection = check(open_store(str(store), "fv3"), experiment(store, levels=[1000, 100, 500]))
    assert selection.channels == (
        PreparedChannel("dswrf_avetoa"),
        PreparedChannel("pressfc"),
        PreparedChannel("tmp", 100, 97.8232650756836),
        PreparedChannel("tmp", 500, 505.6520690917969),
        PreparedChannel("tmp", 1000, 998.7807006835938),
        PreparedChannel("ugrd10m"),
    )
    assert selection.static == ("hgtsfc_static", "land_static")


def test_the_layer_thickness_is_prepared_where_it_weights_the_statistics(store: Path) -> None:
    selection = check(open_store(str(store), "fv3"), experiment(store, normalization={"weights": "volume"}))
    assert [channel.level for channel in selection.channels if channel.variable == "delz"] == [100, 500, 1000]


def test_an_unknown_variable_is_refused_with_the_nearest_names(store: Path) -> None:
    chosen = experiment(store, targets=["presfc", "tmp"], inputs=["presfc", "tmp"])
    refuse(chosen, r"no variable 'presfc' \(did you mean pressfc\?\)")


def test_a_store_has_its_variables_by_weatherbenchs_names_too_in_the_units_of_these(store: Path) -> None:
    replay = open_store(str(store), "fv3")
    stamp = replay.times[:1]
    assert np.array_equal(replay.read("surface_pressure", stamp), replay.read("pressfc", stamp))
    height = replay.read("hgtsfc_static").astype(np.float64)
    assert np.allclose(replay.read("geopotential_at_surface"), 9.80665 * height, rtol=1e-6)
    assert replay.facts("geopotential_at_surface").attributes["units"] == "m**2*s**-2"
    assert not replay.has("mean_sea_level_pressure")


def test_a_misspelt_derived_forcing_is_answered_with_its_name(store: Path) -> None:
    chosen = experiment(store, inputs=["tmp", "year_progres_sin"], targets=["tmp"])
    refuse(chosen, "did you mean year_progress_sin")


def test_a_level_the_store_lacks_is_refused_with_those_it_has(store: Path) -> None:
    refuse(experiment(store, levels=[500], level_match="exact"), r"tmp of .*closest is 505\.652.*998\.7807")


def test_a_variable_with_levels_needs_levels(store: Path) -> None:
    refuse(experiment(store, levels=[]), r"tmp has levels, but data\.levels names none")


@pytest.mark.parametrize("use", ["targets", "forcings"])
def test_a_static_field_is_neither_target_nor_forcing(store: Path, use: str) -> None:
    refuse(experiment(store, **{use: ["land_static"], "inputs": ["land_static"]}), "land_static does not change")


def test_a_varying_input_that_a_forecast_could_not_know_is_refused(store: Path) -> None:
    refuse(experiment(store, forcings=[]), r"dswrf_avetoa changes with time.*data\.targets.*data\.forcings")


def test_a_static_field_with_levels_is_refused(ocean: Path) -> None:
    chosen = ocean_experiment(ocean, inputs=["temp", "landsea_mask"], targets=["temp"])
    refuse(chosen, r"landsea_mask .* has levels \(z_l\) and no time")


@pytest.mark.parametrize(
    ("name", "period"),
    [("evaluation", ("1994-01-09T00", "1994-03-11T18")), ("training", ("1993-12-30T00", "1994-01-06T18"))],
)
def test_a_period_outside_the_record_is_named_with_the_record(store: Path, name: str, period: tuple[str, str]) -> None:
    chosen = experiment(store, **{name: period})
    refuse(chosen, f"the {name} period .* runs from 1993-12-31T18 to 1994-01-12T15")


def test_a_step_the_stamps_cannot_give_is_refused_with_the_stores_own(store: Path) -> None:
    chosen = experiment(
        store,
        time_step="4h",
        training=("1994-01-01T00", "1994-01-05T00"),
        validation=("1994-01-05T04", "1994-01-07T00"),
        evaluation=("1994-01-08T00", "1994-01-11T00"),
    )
    refuse(chosen, "time_step of 4h.*3h apart; choose a multiple of 3h")


def test_stamps_between_the_stores_are_refused_with_the_nearest(tmp_path: Path) -> None:
    path = build_atmosphere(tmp_path / "fv3.zarr", count=45, step_hours=6, variables=("pressfc",))
    chosen = experiment(
        path,
        inputs=["pressfc"],
        targets=["pressfc"],
        forcings=[],
        training=("1993-12-31T21", "1994-01-05T21"),
        validation=("1994-01-06T03", "1994-01-07T21"),
        evaluation=("1994-01-08T03", "1994-01-10T21"),
    )
    refuse(chosen, "start at 1993-12-31T18 or 1994-01-01T00")


def test_a_store_with_missing_stamps_still_has_its_own_step(flawed: Path) -> None:
    check(open_store(str(flawed), "fv3"), experiment(flawed))


def test_the_preflight_tells_levels_size_and_missing_stamps_and_writes_nothing(flawed: Path, tmp_path: Path) -> None:
    facts = preflight(experiment(flawed), tmp_path / "root")
    assert facts["missing stamps"] == "1994-01-05T06"
    assert "500 -> 505.6521" in facts["levels"]
    assert facts["channels"] == 6
    assert not (tmp_path / "root").exists()


def test_the_embedded_world_is_checked_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no variable 'pressfcc' \(did you mean pressfc"):
        preflight(experiment("embedded", inputs=["pressfcc"], targets=["pressfcc"]), tmp_path)
    with pytest.raises(UserError, match="record of embedded, which runs from 1993-12-31T18"):
        preflight(experiment("embedded", levels=[500], training=("1990-01-01T00", "1990-02-01T00")), tmp_path)
    assert np.array_equal(list(tmp_path.iterdir()), [])
