"""The scores store, the tables and the demo's bar."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from graphufs.demo_bar import bar_table, check
from graphufs.errors import UserError
from graphufs.vocabulary.labels import number
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.metrics import DEFAULT_STATISTICS
from graphufs.weatherbench.results.display import channel_name, lead_name
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.results.table import score_table
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState
from tests.support.earlier import as_before

CHANNELS = (Channel("surface_pressure"), Channel("temperature", 500.0), Channel("temperature", 1000.0))
LEADS = tuple(np.arange(1, 41) * np.timedelta64(6, "h").astype("timedelta64[ns]"))
FORECASTS = ("emulator", "persistence", "climatology", "damped_persistence")
ATTRIBUTES = {"independent_initial_times": 53, "vertical": "native model layers", "level_units": "hPa"}
UNITS = {"surface_pressure": {"units": "Pa"}, "temperature": {"units": "K"}}


def made(
    emulator: float = 0.5, *, times: int = 53, leads: tuple[np.timedelta64, ...] = LEADS, activity: float = 1.0
) -> Scores:
    """Scores of a world like the demo's: persistence saturates within two days, climatology is level.

    The emulator's error saturates too, after ten days, `emulator` times as fast as the recipe's.
    """
    axes = Axes(tuple(DEFAULT_STATISTICS), leads, CHANNELS, ("global",))
    days = np.array(leads) / np.timedelta64(1, "D")
    rmse = {
        "emulator": emulator * 0.62 * days**0.75,
        "persistence": 1.4 * (1 - np.exp(-days / 1.2)),
        "climatology": np.ones(len(days)),
        "damped_persistence": 1 - 0.9 * np.exp(-days / 1.2),
    }
    states = {}
    for name in FORECASTS:
        states[name] = ScoreState(axes)
        for index in range(times):
            averages = np.zeros(axes.shape)
            scale = 1 + 0.1 * np.sin(index)
            averages[list(DEFAULT_STATISTICS).index("squared_error")] = (scale * rmse[name] ** 2)[:, None, None]
            averages[list(DEFAULT_STATISTICS).index("absolute_error")] = rmse[name][:, None, None]
            averages[list(DEFAULT_STATISTICS).index("squared_truth_anomaly")] = 1.0
            averages[list(DEFAULT_STATISTICS).index("squared_forecast_anomaly")] = activity**2
            averages[list(DEFAULT_STATISTICS).index("anomaly_product")] = 0.5
            states[name].update(np.datetime64("1995-01-01", "ns") + index * np.timedelta64(162, "h"), averages)
    return Scores.from_states(states, ATTRIBUTES, UNITS)


SCORES = made()


def test_a_stored_score_is_read_back_the_same(tmp_path: Path) -> None:
    SCORES.write(tmp_path / "scores.zarr")
    read = Scores.open(tmp_path / "scores.zarr")
    assert read.forecasts == FORECASTS and read.channels == CHANNELS
    np.testing.assert_array_equal(read.initial_times, SCORES.initial_times)
    np.testing.assert_array_equal(read.leads, LEADS)
    assert read.dataset.attrs["convention"] == "WeatherBench2"
    assert read.dataset["temperature"].attrs["units"] == "K"
    assert read.dataset["temperature"].dims == ("forecast", "metric", "region", "lead_time", "level")
    for channel in CHANNELS:
        np.testing.assert_array_equal(
            read.values("rmse", "persistence", channel), SCORES.values("rmse", "persistence", channel)
        )


def test_states_come_back_from_the_store_and_merge_with_a_later_night(tmp_path: Path) -> None:
    SCORES.write(tmp_path / "scores.zarr")
    states = Scores.open(tmp_path / "scores.zarr").states()
    for name, state in SCORES.states().items():
        np.testing.assert_array_equal(states[name].stacked(), state.stacked())
    fewer, all_of_them = made(times=50).states(), made(times=53).states()
    merged = fewer["emulator"].merge(all_of_them["emulator"].select(all_of_them["emulator"].initial_times[50:]))
    np.testing.assert_array_equal(merged.finalize()["rmse"], all_of_them["emulator"].finalize()["rmse"])


def test_damaged_statistics_are_refused(tmp_path: Path) -> None:
    SCORES.write(tmp_path / "scores.zarr")
    as_before(tmp_path / "scores.zarr")
    path = tmp_path / "scores.zarr" / "statistics"
    damaged = xr.open_zarr(tmp_path / "scores.zarr", group="statistics", chunks=None).load()
    damaged["temperature"][0, 3, 2, 0, 5, 0] += 1e-9
    for file in (path / "temperature").iterdir():
        if not file.name.startswith("."):
            file.unlink()
    damaged[["temperature"]].drop_encoding().to_zarr(
        tmp_path / "scores.zarr", group="statistics", mode="a", zarr_format=2
    )
    with pytest.raises(UserError, match="statistics of emulator are damaged"):
        Scores.open(tmp_path / "scores.zarr").states()


def chunks(store: Path) -> list[Path]:
    """All files of a store that hold values."""
    return sorted(path for path in store.rglob("*") if path.is_file() and not path.name.startswith("."))


def opened(store: Path) -> None:
    Scores.open(store).states()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store, of an earlier version: of the present one, checksums of files would find all."""
    store = tmp_path_factory.mktemp("small") / "scores.zarr"
    made(times=2, leads=LEADS[:2]).write(store)
    as_before(store)
    opened(store)
    return store


def test_a_store_that_lost_any_of_its_files_is_refused(small: Path) -> None:
    assert len(chunks(small)) > 12
    for file in chunks(small):
        content = file.read_bytes()
        file.unlink()
        try:
            with pytest.raises(UserError, match="damaged"):
                opened(small)
        finally:
            file.write_bytes(content)
    opened(small)


@pytest.mark.parametrize("damage", ["cut", "emptied", "zeros", "one byte"])
def test_a_store_with_a_damaged_chunk_is_refused(small: Path, damage: str) -> None:
    for file in chunks(small):
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(
            {
                "cut": content[:middle],
                "emptied": b"",
                "zeros": bytes(len(content)),
                "one byte": content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :],
            }[damage]
        )
        try:
            with pytest.raises(UserError, match="damaged"):
                opened(small)
        finally:
            file.write_bytes(content)


def test_a_store_with_half_its_metadata_is_refused(small: Path) -> None:
    metadata = small / ".zmetadata"
    content = metadata.read_bytes()
    metadata.write_bytes(content[: len(content) // 2])
    try:
        with pytest.raises(UserError, match="damaged"):
            opened(small)
    finally:
        metadata.write_bytes(content)


def test_scores_of_halves_merged_and_stored_are_those_of_the_whole(tmp_path: Path) -> None:
    whole = made(times=31)
    half = {name: state.initial_times[:14] for name, state in whole.states().items()}
    for part, store in ((slice(None, 14), "first"), (slice(14, None), "second")):
        states = {name: state.select(state.initial_times[part]) for name, state in whole.states().items()}
        Scores.from_states(states, ATTRIBUTES, UNITS).write(tmp_path / f"{store}.zarr")
    first, second = (Scores.open(tmp_path / f"{name}.zarr").states() for name in ("second", "first"))
    merged = Scores.from_states({name: first[name].merge(second[name]) for name in half}, ATTRIBUTES, UNITS)
    for name in whole.dataset.data_vars:
        np.testing.assert_allclose(merged.dataset[name], whole.dataset[name], rtol=1e-12, atol=0)
    assert merged.checksums == whole.checksums


def test_missing_scores_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="graphufs evaluate"):
        Scores.open(tmp_path / "scores.zarr")


def test_the_csv_has_every_score_with_its_unit(tmp_path: Path) -> None:
    SCORES.write(tmp_path / "scores.zarr")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert len(rows) == len(FORECASTS) * 8 * len(CHANNELS) * len(LEADS)
    row = next(
        row
        for row in rows
        if (row["forecast"], row["metric"], row["variable"], row["level"], row["lead_hours"])
        == ("persistence", "mse", "temperature", "500", "24")
    )
    expected = SCORES.at("mse", "persistence", CHANNELS[1], np.timedelta64(24, "h"))
    assert float(row["value"]) == pytest.approx(expected) and row["units"] == "(K)^2"
    assert {row["units"] for row in rows if row["metric"] == "acc"} == {""}
    assert {row["convention"] for row in rows} == {"WeatherBench2"}


def test_scores_of_another_convention_or_nan_rule_say_so_and_keep_it(tmp_path: Path) -> None:
    axes = Axes(tuple(DEFAULT_STATISTICS), LEADS[:1], CHANNELS, ("global",), "WeatherBench-X", skipna=True)
    state = ScoreState(axes)
    state.update(np.datetime64("1995-01-01", "ns"), np.ones(axes.shape))
    Scores.from_states({"emulator": state}, {}, {}).write(tmp_path / "scores.zarr")
    read = Scores.open(tmp_path / "scores.zarr")
    assert read.states()["emulator"].axes == axes
    assert read.dataset.attrs["convention"] == "WeatherBench-X" and read.dataset.attrs["skipna"]
    assert "WeatherBench-X" in read.csv()


def test_a_lead_that_was_not_scored_has_no_value() -> None:
    assert np.isnan(SCORES.at("rmse", "emulator", CHANNELS[0], np.timedelta64(7, "h")))
    assert np.isnan(SCORES.ratio("emulator", "climatology", CHANNELS[0], np.timedelta64(11, "D")))


def shown(what: object) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_the_table_fits_80_columns_and_shows_rmse_and_ratios() -> None:
    text = shown(score_table(SCORES))
    assert max(len(line) for line in text.splitlines()) <= 80
    day = np.timedelta64(24, "h")
    persistence = SCORES.at("rmse", "persistence", CHANNELS[1], day)
    ratio = SCORES.ratio("emulator", "persistence", CHANNELS[1], day)
    assert f"{number(persistence)} {ratio:.2f}" in text
    assert "Temperature, layer ~500 hPa (K)" in text and "Surface pressure (hPa)" in text
    for lead in ("6 h", "1 d", "2 d", "3 d", "5 d", "10 d"):
        assert lead in text


def test_an_analysis_scored_against_itself_is_not_called_replay() -> None:
    assert "RMSE against Replay over 53" in shown(score_table(SCORES))
    analysis = made(leads=LEADS[:2])
    analysis.dataset.attrs["vertical"] = "pressure levels"
    assert "RMSE against the analysis itself over 53" in shown(score_table(analysis))
    analysis.dataset.attrs["truth_name"] = "era5"
    assert analysis.truth_label == "ERA5"


def test_the_table_shows_the_leads_there_are() -> None:
    text = shown(score_table(made(leads=LEADS[1:3])))
    assert "12 h" in text and "18 h" in text and "1 d" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (1.2345, "1.23"), (123.45, "123"), (0.04567, "0.0457"), (9.999, "10.0"), (99.96, "100"),
     (4.5e-7, "4.50e-07"), (12345.6, "12346"), (float("nan"), "–"), (-0.5, "-0.500")],
)  # fmt: skip
def test_numbers_have_three_digits_worth_reading(value: float, text: str) -> None:
    assert number(value) == text


def test_names_say_what_levels_are() -> None:
    assert channel_name(Channel("temperature", 500.0)) == "Temperature, 500 hPa"
    assert channel_name(Channel("temperature", 500.0), "native model layers") == "Temperature, layer ~500 hPa"
    assert channel_name(Channel("sea_thing", 5.0), "native model layers", "m") == "Sea thing, layer ~5 m"
    assert lead_name(np.timedelta64(36, "h")) == "1.5 d"


def passed(scores: Scores) -> dict[str, bool]:
    return {criterion.name: criterion.passed for criterion in check(scores)}


def test_a_skilful_emulator_passes_the_whole_bar() -> None:
    verdicts = passed(SCORES)
    assert len(verdicts) == 13 and all(verdicts.values()), check(SCORES)


def test_an_emulator_without_skill_fails_every_comparison() -> None:
    verdicts = passed(made(emulator=5.0))
    assert not any(ok for name, ok in verdicts.items() if name.startswith("RMSE"))


def test_a_slightly_worse_emulator_fails_at_the_limit() -> None:
    lead = np.timedelta64(48, "h")
    ratio = SCORES.ratio("emulator", "persistence", CHANNELS[0], lead)
    for factor, ok in ((0.999, True), (1.001, False)):
        verdicts = passed(made(emulator=0.5 * 0.70 / ratio * factor))
        assert verdicts["RMSE over persistence at 2 d, worst target"] is ok


def test_one_bad_target_fails_the_worst_target_criteria() -> None:
    scores = made()
    scores.dataset["temperature"].loc[{"forecast": "emulator", "metric": "rmse", "level": 500}] *= 2.5
    verdicts = passed(scores)
    assert not verdicts["RMSE over persistence at 1 d, worst target"]
    assert verdicts["initial times outside training and validation"]


def test_forecasts_that_are_not_finite_fail() -> None:
    scores = made()
    scores.dataset["surface_pressure"].loc[{"forecast": "emulator", "metric": "rmse"}][..., 30] = np.inf
    verdicts = passed(scores)
    assert not verdicts["share of finite scores up to 10 d"]


def test_a_nan_target_is_not_hidden_by_the_others() -> None:
    scores = made()
    scores.dataset["temperature"].loc[{"forecast": "emulator", "metric": "rmse", "level": 1000}] = np.nan
    verdicts = passed(scores)
    assert not any(ok for name, ok in verdicts.items() if name.startswith("RMSE"))


@pytest.mark.parametrize(("activity", "low", "high"), [(0.79, False, True), (1.51, True, False), (0.81, True, True)])
def test_variability_must_be_like_the_truths(activity: float, low: bool, high: bool) -> None:
    verdicts = passed(made(activity=activity))
    assert verdicts["variability over the truth's at 10 d, lowest target"] is low
    assert verdicts["variability over the truth's at 10 d, highest target"] is high


def test_too_few_independent_initial_times_fail() -> None:
    scores = made()
    scores.dataset.attrs["independent_initial_times"] = 49
    assert not passed(scores)["initial times outside training and validation"]


def test_short_forecasts_fail_what_they_do_not_reach() -> None:
    verdicts = passed(made(leads=LEADS[:8]))
    assert verdicts["RMSE over persistence at 2 d, worst target"]
    for name in ("RMSE over persistence at 5 d, mean over targets", "share of finite scores up to 10 d"):
        assert not verdicts[name]


def test_the_bars_table_fits_80_columns_and_says_pass_or_fail() -> None:
    good, bad = shown(bar_table(check(SCORES))), shown(bar_table(check(made(emulator=5.0))))
    assert "bar is passed" in good and "FAIL" not in good
    assert "FAILED: 9 of 13" in bad
    assert max(len(line) for line in bad.splitlines()) <= 80
