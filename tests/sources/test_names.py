"""Variables go by either side's names, whatever the source calls them, and weights from one to the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphufs.config.experiment import Experiment
from graphufs.data.selection import check
from graphufs.deepmind.warm_start import initial_network
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.forecast.from_analysis import Analysis
from graphufs.normalization.statistics import Statistics
from graphufs.sources.kinds import open_source_at
from graphufs.vocabulary.variables import replay_name, weatherbench_name
from tests.sources.test_layouts import VARIABLES, prepared, settings
from tests.support.analyses import weather, write_anemoi, write_data_store, write_grib, write_weatherbench
from tests.support.emulators import save

WRITERS = {"netcdf": write_data_store, "a.grib": write_grib, "anemoi.zarr": write_anemoi}


def named(url: Path, *, replay: bool, without: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> Experiment:
    """The experiment on a source by Replay's names or by WeatherBench2's, without some variables and with others."""
    content: dict[str, Any] = settings(url)
    for key in ("inputs", "targets"):
        names = [name for name in content["data"][key] if name not in without]
        content["data"][key] = [*(map(replay_name, names) if replay else names), *also]
    return Experiment.model_validate(content)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, fields = tmp_path_factory.mktemp("names"), weather()
    return {name: write(folder / name, fields) for name, write in WRITERS.items()}


@pytest.mark.parametrize("name", WRITERS)
def test_either_sides_names_serve_and_none_are_mixed(stores: dict[str, Path], name: str) -> None:
    store = open_source_at(str(stores[name]), "auto", "fv3")
    for replay, strange in ((True, "skin_temperature"), (False, "tmpsfc")):
        selection = check(store, named(stores[name], replay=replay))
        assert set(selection.varying) == (set(map(replay_name, VARIABLES)) if replay else set(VARIABLES))
        with pytest.raises(ValueError, match="name all variables alike"):
            named(stores[name], replay=replay, also=(strange,))


def emulator(experiment: Experiment, root: Path) -> ReplayEmulator:
    """An untrained emulator of prepared data, with statistics of ones."""
    prepared(experiment, root)
    made = ReplayEmulator.from_experiment(experiment, root)
    names = (*made.domain.slices, *made.domain.static)
    ones = {name: np.ones(max(1, len(made.domain.levels(name)))) for name in names}
    return replace(made, statistics=Statistics({name: 0 * values for name, values in ones.items()}, ones, ones))


@pytest.fixture(scope="module")
def by_replays_names(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> ReplayEmulator:
    return emulator(named(stores["netcdf"], replay=True), tmp_path_factory.mktemp("replay"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_forecast_begins_from_an_analysis_of_any_layout(
    stores: dict[str, Path], by_replays_names: ReplayEmulator, name: str
) -> None:
    domain, fields = by_replays_names.domain, weather()
    analysis = Analysis(stores[name], by_replays_names)
    frame = analysis.frame(fields["time"].values[5])
    for channel, found in zip(domain.channels, frame, strict=True):
        wanted = fields[weatherbench_name(channel.variable)].isel(time=5)
        assert np.array_equal(found, wanted.sel(level=channel.level) if channel.level else wanted), channel
    surface = analysis.field("hgtsfc_static", (), fields["time"].values[5])[0]  # in metres, as by that name
    assert np.allclose(surface, fields["geopotential_at_surface"] / 9.80665, rtol=1e-6)


def test_an_analysis_in_other_units_is_converted(by_replays_names: ReplayEmulator, tmp_path: Path) -> None:
    fields = weather(days=1)
    celsius = (fields["2m_temperature"] - 273.15).assign_attrs(units="degC")
    write_weatherbench(tmp_path / "era5.zarr", fields.assign({"2m_temperature": celsius}))
    found = Analysis(tmp_path / "era5.zarr", by_replays_names).field("tmp2m", (), fields["time"].values[1])
    assert np.allclose(found[0], fields["2m_temperature"].values[1], atol=1e-4)


def test_weights_go_from_one_sides_names_to_the_others_and_less_than_all_is_refused(
    stores: dict[str, Path], by_replays_names: ReplayEmulator, tmp_path: Path
) -> None:
    checkpoint = save(by_replays_names, tmp_path / "checkpoints")
    assert "tmp2m" in ReplayEmulator.from_checkpoint(checkpoint).experiment.data.inputs  # which names, it says
    here = emulator(named(stores["anemoi.zarr"], replay=False), tmp_path / "weatherbench2")
    report = initial_network(here, checkpoint)[1]
    assert report.count("new") == report.count("in part") == 0
    fewer = emulator(named(stores["anemoi.zarr"], replay=False, without=("geopotential",)), tmp_path / "fewer")
    with pytest.raises(UserError, match=r"has 13 of the 17 inputs of .*, not geopotential.* --partial"):
        initial_network(fewer, checkpoint)
    training = fewer.experiment.training.model_copy(update={"init_partial": True})
    allowed = replace(fewer, experiment=fewer.experiment.model_copy(update={"training": training}))
    assert initial_network(allowed, checkpoint)[1].count("new") == 0
