"""The step `evaluate` on prepared data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.demo_bar import check
from graphufs.errors import Stopped, UserError
from graphufs.steps import Event, never_stop, no_progress, run_step
from graphufs.storage.paths import Paths
from graphufs.weatherbench import evaluate
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.inputs.truth import PreparedTruth
from graphufs.weatherbench.results.scores import Scores
from tests.support import idealised
from tests.support.killing import Halted
from tests.weatherbench.conftest import Made


def changed(experiment: Experiment, **settings: object) -> Experiment:
    return loading.parse(loading.dump(experiment), [f"{key}={value}" for key, value in settings.items()])


def test_scores_record_what_they_are(scored: tuple[Experiment, Path, Scores]) -> None:
    experiment, _, scores = scored
    attributes = scores.dataset.attrs
    assert attributes["convention"] == "WeatherBench2"
    assert attributes["vertical"] == "native model layers"
    assert attributes["grid"].startswith("16x8")
    assert attributes["climatology_period"] == "1994-01-01T00..1994-04-30T18"
    assert attributes["native_levels"]["500"] == pytest.approx(505.652, abs=1e-3)
    assert attributes["initial_times"] == len(experiment.initial_times) == attributes["independent_initial_times"]
    assert attributes["excluded_initial_times"] == {}
    assert scores.forecasts == ("emulator", "persistence", "climatology", "damped_persistence")


def test_the_error_put_into_the_forecasts_is_found(scored: tuple[Experiment, Path, Scores]) -> None:
    _, _, scores = scored
    for channel, scale in (
        (Channel("surface_pressure"), 900.0),
        (Channel("temperature", 500.0), 3.0),
        (Channel("10m_u_component_of_wind"), 4.0),
    ):
        days = scores.lead_hours / 24
        np.testing.assert_allclose(scores.values("rmse", "emulator", channel), 0.3 * scale / 4 * days, rtol=0.05)


def test_persistence_is_the_truth_at_the_initial_time(scored: tuple[Experiment, Path, Scores]) -> None:
    _, _, scores = scored
    pressure, stamps = idealised.fields(idealised.ALL_STAMPS)["pressfc"], idealised.ALL_STAMPS
    bounds = np.deg2rad([90, 69, 46, 23, 0, -23, -46, -69, -90])
    areas = -np.diff(np.sin(bounds))
    start = np.searchsorted(stamps, scores.initial_times)
    errors = (pressure[start].astype(float) - pressure[start + 8]) ** 2  # two days
    expected = np.sqrt((errors.mean(axis=-1) @ areas / areas.sum()).mean())
    found = scores.at("rmse", "persistence", Channel("surface_pressure"), np.timedelta64(48, "h"))
    assert found == pytest.approx(expected, rel=1e-6)


def test_damped_persistence_is_between_persistence_and_climatology_or_better(
    scored: tuple[Experiment, Path, Scores],
) -> None:
    _, _, scores = scored
    for channel in scores.channels:
        damped = scores.values("rmse", "damped_persistence", channel)
        assert (damped <= 1.02 * scores.values("rmse", "climatology", channel)).all()
        assert damped[0] < scores.values("rmse", "persistence", channel)[0]


def test_a_second_run_changes_nothing(scored: tuple[Experiment, Path, Scores]) -> None:
    experiment, root, _ = scored
    paths = Paths(experiment, root)
    before = {path: path.stat().st_mtime_ns for path in paths.scores.rglob("*")}
    result = run_step("evaluate", experiment, root)
    assert result["status"] == "unchanged" and result["initial_times"] == len(experiment.initial_times)
    assert {path: path.stat().st_mtime_ns for path in paths.scores.rglob("*")} == before
    json.dumps(result)


def test_a_second_experiment_shares_the_climatology(scored: tuple[Experiment, Path, Scores]) -> None:
    experiment, root, _ = scored
    other = changed(experiment, **{"forecast.every": "60h"})
    idealised.write_forecasts(other, root)
    labels: set[str] = set()
    evaluate.run(other, root, progress=lambda event: labels.add(event.label), should_stop=never_stop)
    assert labels == {"scores"}


def test_a_stop_leaves_no_scores_and_the_next_run_ends_the_work(prepared: Made) -> None:
    experiment, root = prepared
    late = changed(experiment, **{"forecast.every": "72h", "evaluation.climatology_window": 31})
    idealised.write_forecasts(late, root)
    seen: list[Event] = []
    for label in ("climatology", "scores"):
        with pytest.raises(Stopped, match=label):
            evaluate.run(
                late, root, progress=seen.append, should_stop=lambda label=label: seen[-1:][0].label == label
            )  # fmt: skip
        assert not Paths(late, root).scores.exists()
        assert not list(Paths(late, root).climatology.glob(".*.tmp"))
    assert evaluate.run(late, root, progress=no_progress, should_stop=never_stop)["status"] == "completed"


def test_an_untrained_network_fails_the_bar(prepared: Made) -> None:
    experiment, root = prepared
    untrained = changed(experiment, **{"training.seed": 7})
    idealised.write_forecasts(untrained, root, error=3.0, drift=2.0)
    evaluate.run(untrained, root, progress=no_progress, should_stop=never_stop)
    verdicts = [criterion.passed for criterion in check(Scores.open(Paths(untrained, root).scores))]
    assert sum(verdicts) <= 4


def test_missing_forecasts_and_data_name_the_command(prepared: Made, tmp_path: Path) -> None:
    experiment, root = prepared
    with pytest.raises(UserError, match="graphufs forecast"):
        evaluate.run(changed(experiment, **{"training.seed": 8}), root, progress=no_progress, should_stop=never_stop)
    idealised.write_forecasts(experiment, tmp_path)
    with pytest.raises(UserError, match="graphufs prepare"):
        evaluate.run(experiment, tmp_path, progress=no_progress, should_stop=never_stop)


def test_forecasts_that_verify_in_the_validation_period_are_not_independent(prepared: Made) -> None:
    experiment, root = prepared
    validation = "{start: 1995-01-20T00, end: 1995-01-21T18}"
    early = changed(experiment, **{"data.validation": validation, "data.allow_overlap": "[validation]"})
    idealised.write_forecasts(early, root)
    evaluate.run(early, root, progress=no_progress, should_stop=never_stop)
    times = np.array(early.initial_times, "datetime64[h]")
    # input frames 6 hours before, valid times up to 10 days after the initial time
    apart = (times + np.timedelta64(240, "h") < np.datetime64("1995-01-20T00")) | (
        times - np.timedelta64(6, "h") > np.datetime64("1995-01-21T18")
    )
    attributes = Scores.open(Paths(early, root).scores).dataset.attrs
    assert attributes["independent_initial_times"] == apart.sum() < attributes["initial_times"] == len(times)


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Prepared data that lack one stamp of the evaluation period and have NaN at another."""
    folder = tmp_path_factory.mktemp("flawed")
    experiment, root = idealised.prepared_root(
        folder, missing=("1995-01-20T06",), flawed=("1995-02-10T00", "1994-03-05T12")
    )
    idealised.write_forecasts(experiment, root)
    return experiment, root


def test_initial_times_without_truth_are_excluded_named_and_counted(flawed: Made) -> None:
    experiment, root = flawed
    result = evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    lacking = np.array(["1995-01-20T06", "1995-02-10T00"], "datetime64[ns]")
    days = np.timedelta64(10, "D")
    times = np.array(experiment.initial_times, "datetime64[ns]")
    expected = {str(t.astype("datetime64[h]")) for t in times if ((lacking >= t) & (lacking <= t + days)).any()}
    assert set(result["excluded_initial_times"]) == expected and expected
    assert result["initial_times"] == len(times) - len(expected)
    scores = Scores.open(Paths(experiment, root).scores)
    assert all(np.isfinite(scores.values("rmse", "emulator", channel)).all() for channel in scores.channels)
    climatology = xr.open_zarr(Paths(experiment, root).climatology / "climatology.zarr", chunks=None)
    assert climatology.attrs["frames"] == 479 and np.isfinite(climatology["temperature"].values).all()


def test_a_stamp_with_nan_in_an_unscored_variable_is_still_truth(flawed: Made) -> None:
    experiment, root = flawed
    prepared = PreparedData.open(Paths(experiment, root).data)
    bad = np.datetime64("1995-02-10T00", "ns")
    temperature = PreparedTruth(prepared, [Channel("temperature", 500.0)])
    pressure = PreparedTruth(prepared, [Channel("surface_pressure")])
    assert bad not in temperature.stamps and bad in pressure.stamps
    assert np.isfinite(pressure.read(np.array([bad]))).all()


def test_initial_times_the_forecast_step_left_out_are_named(prepared: Made) -> None:
    experiment, root = prepared
    fewer = changed(experiment, **{"forecast.every": "48h"})
    idealised.write_forecasts(fewer, root)
    paths = Paths(fewer, root)
    whole = xr.open_zarr(paths.forecasts, chunks=None).load()
    whole.isel(time=slice(2, None)).drop_encoding().to_zarr(paths.forecasts, mode="w", zarr_format=2)
    result = evaluate.run(fewer, root, progress=no_progress, should_stop=never_stop)
    first = [time.strftime("%Y-%m-%dT%H") for time in fewer.initial_times[:2]]
    assert result["excluded_initial_times"] == dict.fromkeys(first, "no forecast")


def test_no_truth_at_all_is_an_error(flawed: Made) -> None:
    experiment, root = flawed
    period = "{start: 1995-01-14T00, end: 1995-01-25T18}"
    none = changed(experiment, **{"forecast.period": period})
    idealised.write_forecasts(none, root)
    with pytest.raises(UserError, match="has no truth at 1995-01-20T06"):
        evaluate.run(none, root, progress=no_progress, should_stop=never_stop)
    assert not Paths(none, root).scores.exists()


def test_a_climatology_without_data_near_the_forecasts_is_counted(prepared: Made) -> None:
    experiment, root = prepared
    short = changed(experiment, **{"evaluation.climatology": "{start: 1994-01-01T00, end: 1994-01-05T18}"})
    idealised.write_forecasts(short, root)
    evaluate.run(short, root, progress=no_progress, should_stop=never_stop)
    scores = Scores.open(Paths(short, root).scores)
    assert scores.dataset.attrs["climatology_days_without_data"] > 40
    assert np.isfinite(scores.values("rmse", "climatology", scores.channels[0])).all()


def test_regions_and_another_grid_are_scored_and_recorded(prepared: Made) -> None:
    experiment, root = prepared
    settings = {"regions": "[tropics, global_land]", "grid": "12x6", "skipna": True}
    other = changed(experiment, **{f"evaluation.{key}": value for key, value in settings.items()})
    paths, plain = Paths(other, root), Paths(experiment, root)
    assert paths.scores != plain.scores and paths.climatology == plain.climatology
    run_step("evaluate", other, root, progress=no_progress, should_stop=never_stop)
    scores = Scores.open(paths.scores)
    regions = [str(region) for region in scores.dataset["region"].values]
    assert regions == ["global", "tropics", "global_land"]
    assert scores.dataset.attrs["grid"].startswith("12x6, latitude -75.0000 to 75.0000, regridded from 16x8, conserv")
    assert scores.dataset.attrs["skipna"]
    everywhere, tropics, land = (scores.values("rmse", "emulator", scores.channels[0], region) for region in regions)
    assert all(np.isfinite(rmse).all() for rmse in (everywhere, tropics, land))
    assert not np.allclose(tropics, everywhere) and not np.allclose(land, everywhere)
    # the forecasts' error is small at first: it is not if forecast, truth and climatology lie on different grids
    assert (everywhere[:4] < 0.5 * scores.values("rmse", "climatology", scores.channels[0])[:4]).all()


def test_an_unknown_region_and_grid_are_refused_before_anything_runs(prepared: Made) -> None:
    for setting, message in (
        ({"evaluation.regions": "[europ]"}, "did you mean europe"),
        ({"evaluation.regions": "[global]"}, "global is named more than once"),
        ({"evaluation.regions": "[south-america]"}, "no region south-america in WeatherBench2"),
        ({"evaluation.grid": "64"}, "evaluation.grid"),
    ):
        with pytest.raises(UserError, match=message):
            changed(prepared[0], **setting)


def test_killed_while_scores_are_written_none_are_there_and_the_next_run_makes_them(prepared: Made) -> None:
    experiment, root = prepared
    other = changed(experiment, **{"forecast.every": "120h", "evaluation.regions": "[tropics]"})
    idealised.write_forecasts(other, root)
    place = Paths(other, root).scores
    # the climatology is there: the second group written is that of the statistics
    Halted("evaluate", other, root, "xarray", "Dataset.to_zarr", 2).kill()
    assert not place.exists() and len(list(place.parent.glob(f".{place.name}.*.tmp"))) == 1
    assert evaluate.run(other, root, progress=no_progress, should_stop=never_stop)["status"] == "completed"
    Scores.open(place).states()
    assert not list(place.parent.glob(f".{place.name}.*.tmp"))
