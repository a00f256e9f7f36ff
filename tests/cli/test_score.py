"""`graphufs score` against the formulas of WeatherBench2 in plain loops, on grids and data of many kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from graphufs.cli.main import app
from graphufs.errors import UserError
from graphufs.storage.zarr_io import write_zarr
from graphufs.weatherbench.inputs.truth import DatasetTruth
from tests.support.climatology import in_memory

HOUR = np.timedelta64(1, "h")
LEADS = np.array([6, 24, 54]) * HOUR.astype("timedelta64[ns]")
STAMPS = np.datetime64("2020-02-25", "ns") + 6 * HOUR * np.arange(48)  # over a 29 February
IRREGULAR = np.array(["2020-02-26T06", "2020-02-28T18", "2020-02-29T00", "2020-03-02T12"], "datetime64[ns]")
GRIDS = {
    "poles": (np.linspace(-90, 90, 7), 12),
    "no poles": (np.linspace(-78.75, 78.75, 8), 10),
    "descending": (np.linspace(90, -90, 9), 8),
    "gaussian": (np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(8)[0])), 16),
    "uneven": (np.array([-80.0, -50.0, -21.0, -4.0, 13.0, 47.0, 88.0]), 9),
}
FIELDS = ("temperature", "2m_temperature")


def stores(grid: str, times: np.ndarray = IRREGULAR, seed: int = 0) -> dict[str, xr.Dataset]:
    """Forecast, truth (with a land-sea mask) and climatology of one grid."""
    rng = np.random.default_rng(seed)
    latitude, columns = GRIDS[grid]
    place = {"latitude": latitude, "longitude": 360 / columns * np.arange(columns)}
    shape = (len(latitude), columns)

    def field(*leading: int) -> np.ndarray:
        return rng.normal(270, 9, size=(*leading, *shape)).astype(np.float32)

    truth = xr.Dataset(
        {
            "temperature": (("time", "level", *place), field(len(STAMPS), 2)),
            "2m_temperature": (("time", *place), field(len(STAMPS))),
            "land_sea_mask": (tuple(place), rng.uniform(size=shape).round(1)),
        },
        {"time": STAMPS, "level": [500, 850], **place},
    )
    count = len(times), len(LEADS)
    forecast = xr.Dataset(
        {
            "temperature": (("time", "prediction_timedelta", "level", *place), field(*count, 2)),
            "2m_temperature": (("time", "prediction_timedelta", *place), field(*count)),
        },
        {"time": times, "prediction_timedelta": LEADS, "level": [500, 850], **place},
    )
    climatology = in_memory(DatasetTruth(truth[list(FIELDS)]), STAMPS, window=5)
    return {"forecast": forecast, "truth": truth, "climatology": climatology}


def spatial_mean(field: np.ndarray, weights: np.ndarray, skipna: bool) -> float:
    """Sum of w x over sum of w, of the points with any weight."""
    total = norm = 0.0
    for x, w in zip(field.ravel(), weights.ravel(), strict=True):
        if w > 0 and not (skipna and np.isnan(x)):
            total, norm = total + w * x, norm + w
    return total / norm if norm else np.nan


def weights_of(latitude: np.ndarray, longitude: np.ndarray, region: str, land: np.ndarray) -> np.ndarray:
    """Areas between midpoints, the outermost up to the poles; the fraction of land; the region's box."""
    radians = np.deg2rad(np.sort(latitude))
    bounds = [-np.pi / 2, *((radians[1:] + radians[:-1]) / 2), np.pi / 2]
    area = {phi: np.sin(b) - np.sin(a) for phi, a, b in zip(np.sort(latitude), bounds[:-1], bounds[1:], strict=True)}
    rows = np.array([area[phi] for phi in latitude]) / np.mean(list(area.values()))
    inside = {"global": np.abs(latitude) <= 90, "tropics": np.abs(latitude) <= 20}[region.removesuffix("_land")]
    weights = np.where(inside, rows, 0)[:, None] * np.ones(len(longitude))
    return weights * land if region.endswith("_land") else weights


def expected(
    made: dict[str, xr.Dataset], name: str, level: int | None, region: str, skipna: bool, times: np.ndarray
) -> dict[str, np.ndarray]:
    """MSE, MAE, bias and ACC by lead."""
    pick = {} if level is None else {"level": level}
    weights = weights_of(
        made["truth"]["latitude"].values,
        made["truth"]["longitude"].values,
        region,
        made["truth"]["land_sea_mask"].values,
    )
    found: dict[str, list[float]] = {"mse": [], "mae": [], "bias": [], "acc": []}
    for lead in LEADS:
        each: dict[str, list[float]] = {metric: [] for metric in found}
        for time in times:
            valid = xr.DataArray(time + lead).dt
            f = made["forecast"][name].sel(time=time, prediction_timedelta=lead, **pick).values.astype(np.float64)
            o = made["truth"][name].sel(time=time + lead, **pick).values.astype(np.float64)
            day = {"hour": int(valid.hour), "dayofyear": int(valid.dayofyear)}
            c = made["climatology"][name].sel(**day, **pick).values.astype(np.float64)
            each["mse"].append(spatial_mean((f - o) ** 2, weights, skipna))
            each["mae"].append(spatial_mean(abs(f - o), weights, skipna))
            each["bias"].append(spatial_mean(f - o, weights, skipna))
            square = [spatial_mean((x - c) ** 2, weights, skipna) for x in (f, o)]
            each["acc"].append(spatial_mean((f - c) * (o - c), weights, skipna) / np.sqrt(square[0] * square[1]))
        for metric, values in each.items():
            found[metric].append(
                float(np.nanmean(values) if skipna and not np.isnan(values).all() else np.mean(values))
            )
    return {metric: np.array(values) for metric, values in found.items()}


def scored(folder: Path, made: dict[str, xr.Dataset], *options: str, **others: xr.Dataset) -> xr.Dataset:
    """What the command writes."""
    for name, dataset in (made | others).items():
        write_zarr(folder / name, {None: dataset})
    paths = [str(folder / name) for name in ("forecast", "truth", "climatology", "out")]
    app(["score", *paths, *options], result_action="return_value")
    with xr.open_dataset(folder / "out" / "deterministic.nc") as results:
        return results.load()


def assert_as_written_out(
    results: xr.Dataset, made: dict[str, xr.Dataset], regions: tuple[str, ...], skipna: bool, times: np.ndarray
) -> None:
    for region in regions:
        for name, level in (("2m_temperature", None), ("temperature", 850)):
            array = results[name].sel(region=region, **({} if level is None else {"level": level}))
            for metric, values in expected(made, name, level, region, skipna, times).items():
                scale = 10.0 if metric == "bias" else 1.0  # a bias is exact relative to the error
                np.testing.assert_allclose(
                    array.sel(metric=metric).values, values, rtol=2e-6, atol=2e-6 * scale, err_msg=f"{metric} {region}"
                )


REGIONS = ("global", "tropics", "global_land")


@pytest.mark.parametrize("grid", GRIDS)
def test_scores_on_any_grid_and_irregular_initial_times_are_those_of_the_formulas(grid: str, tmp_path: Path) -> None:
    made = stores(grid)
    results = scored(tmp_path, made, "--regions", *REGIONS)
    assert_as_written_out(results, made, REGIONS, False, IRREGULAR)
    assert results.attrs["truth"].endswith("truth") and results.attrs["grid"].startswith(f"{GRIDS[grid][1]}x")


@pytest.mark.parametrize("skipna", [False, True])
def test_nan_in_forecast_and_truth_follows_the_rules(skipna: bool, tmp_path: Path) -> None:
    made = stores("descending")
    ocean = np.argwhere(made["truth"]["land_sea_mask"].values == 0)[0]
    made["forecast"]["2m_temperature"].values[1, 0, 2:4, 3] = np.nan
    made["forecast"]["temperature"].values[2, 1, 1] = np.nan  # a whole field
    made["truth"]["2m_temperature"].values[STAMPS == IRREGULAR[0] + LEADS[2], ocean[0], ocean[1]] = np.nan
    results = scored(tmp_path, made, "--regions", *REGIONS, *(["--skipna"] if skipna else []))
    assert_as_written_out(results, made, REGIONS, skipna, IRREGULAR)
    mse = results["2m_temperature"].sel(metric="mse")
    spoilt = mse.isnull().sel(region="global").values
    assert spoilt.tolist() == ([False] * 3 if skipna else [True, False, True])
    assert not mse.isnull().sel(region="global_land").values[2], "a point without land does not matter there"


def test_initial_times_without_truth_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = stores("poles")
    gap = made["truth"].sel(time=STAMPS[STAMPS != IRREGULAR[2] + LEADS[1]])
    results = scored(tmp_path, made, "--regions", "global", truth=gap)
    assert_as_written_out(results, made, ("global",), False, np.delete(IRREGULAR, 2))
    told = capsys.readouterr()
    assert "results of 3 initial times" in told.out
    assert "1 initial times are left out because truth is missing: for example, 2020-02-29T00" in told.err
    assert "has none at 2020-03-01T00" in told.err


def test_longitudes_of_another_range_and_truth_on_another_grid_are_refused(tmp_path: Path) -> None:
    made = stores("poles")
    west = made["forecast"].assign_coords(longitude=made["forecast"]["longitude"] - 180)
    with pytest.raises(UserError, match="from -180 to 150; WeatherBench2 needs them ascending within 0 to 360"):
        scored(tmp_path, made, forecast=west)
    with pytest.raises(UserError, match="truth lies on another grid .*name a grid to bring all of them to"):
        scored(tmp_path, made, truth=stores("no poles")["truth"])


def test_on_a_named_grid_everything_is_regridded_that_does_not_lie_there(tmp_path: Path) -> None:
    made, other = stores("poles"), stores("no poles", seed=1)
    mixed = made | {"truth": other["truth"], "climatology": other["climatology"]}
    options = ["--grid", "12x7", "--regridding", "bilinear", "--regions", "global", "global_land"]
    results = scored(tmp_path / "mixed", mixed, *options)
    # bilinear by hand: along latitude, clamped at the ends, then along longitude around the globe
    source = other["truth"]
    wrapped = xr.concat(
        [source, source.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude", data_vars="minimal"
    )
    place = {name: made["truth"][name] for name in ("latitude", "longitude")}
    inside = place["latitude"].clip(source["latitude"].min(), source["latitude"].max()).values
    moved = wrapped.interp(latitude=inside, longitude=place["longitude"]).assign_coords(place)
    normal = other["climatology"].drop_vars("covered")
    normal = xr.concat([normal, normal.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude")
    normal = normal.interp(latitude=inside, longitude=place["longitude"]).assign_coords(place)
    by_hand = made | {"truth": moved, "climatology": normal}
    assert_as_written_out(results, by_hand, ("global", "global_land"), False, IRREGULAR)
    assert results.attrs["grid"] == "12x7, latitude -90.0000 to 90.0000, unchanged (no regridding)"


def by_valid_time(made: dict[str, xr.Dataset], times: np.ndarray) -> xr.Dataset:
    """Forecasts of these valid times, [time, prediction_timedelta]; values of no initial time in particular."""
    rng = np.random.default_rng(3)
    whole = made["forecast"].isel(time=[0] * len(times)).assign_coords(time=times)
    return whole.map(lambda field: (field + rng.normal(size=field.shape)).astype(np.float32))


def test_forecasts_by_valid_time_are_scored_against_the_truth_of_that_time(tmp_path: Path) -> None:
    made = stores("uneven")
    times = np.append(STAMPS[8:14], np.datetime64("2021-01-01", "ns"))  # the truth ends before the last
    made["forecast"] = by_valid_time(made, times)
    results = scored(tmp_path, made, "--by-valid", "--regions", "global", "--baselines", "climatology")
    truth = made["truth"]["2m_temperature"].sel(time=times[:-1])
    weights = weights_of(*(truth[name].values for name in ("latitude", "longitude")), "global", np.ones(1))
    errors = (made["forecast"]["2m_temperature"].isel(time=slice(-1)) - truth).transpose("prediction_timedelta", ...)
    mse = [np.mean([spatial_mean(e.astype(float) ** 2, weights, False) for e in lead]) for lead in errors.values]
    np.testing.assert_allclose(results["2m_temperature"].sel(metric="mse", region="global"), mse, rtol=1e-6)
    with xr.open_dataset(tmp_path / "out" / "deterministic_temporal.nc") as temporal:
        np.testing.assert_array_equal(temporal["time"], times[:-1])
        np.testing.assert_array_equal(temporal["init_time"], times[:-1, None] - LEADS)


def test_forecasts_by_valid_time_out_of_phase_are_refused_instead_of_scored_nan(tmp_path: Path) -> None:
    made = stores("poles")
    made["forecast"] = by_valid_time(made, STAMPS[8:14] + 3 * HOUR)
    with pytest.raises(UserError, match="valid at 03, 09, 15, 21 UTC, the truth only has 00, 06, 12, 18 UTC"):
        scored(tmp_path, made, "--by-valid")
    with pytest.raises(UserError, match="persistence needs the truth at the initial time"):
        scored(tmp_path, made, "--by-valid", "--baselines", "persistence")


def test_levels_in_names_are_levels(tmp_path: Path) -> None:
    made = stores("poles")
    whole = made["forecast"]
    parts = {f"temperature_{level}": whole["temperature"].sel(level=level, drop=True) for level in (850, 500)}
    flat = xr.Dataset({**parts, "2m_temperature": whole["2m_temperature"]})
    results = scored(tmp_path, made, "--pressure-level-suffixes", "--regions", "global", forecast=flat)
    assert results["level"].values.tolist() == [500, 850]
    assert_as_written_out(results, made, ("global",), False, IRREGULAR)
    channels = flat.to_dataarray("channel").rename("forecast").to_dataset()
    stacked = scored(tmp_path / "b", made, "--pressure-level-suffixes", "--regions", "global", forecast=channels)
    xr.testing.assert_allclose(stacked, results)
    for bad, message in (
        (whole, "has levels as a dimension"),
        (whole[["2m_temperature"]], "ends in a level"),
        (flat.assign(temperature=flat["2m_temperature"]), "temperature both with a level in its name and without"),
    ):
        with pytest.raises(UserError, match=message):
            scored(tmp_path / "bad", made, "--pressure-level-suffixes", forecast=bad)


def test_analyses_are_forecasts_of_themselves(tmp_path: Path) -> None:
    made = stores("poles")
    analyses = made["truth"].drop_vars("land_sea_mask").isel(time=slice(4, 9)) + np.float32(2)
    results = scored(tmp_path, made, "--analyses", "--regions", "global", forecast=analyses)
    assert results["lead_time"].values.tolist() == [0] and results.attrs["initial_times"] == 5
    np.testing.assert_allclose(results["temperature"].sel(metric="rmse"), 2, rtol=1e-5)
    with pytest.raises(UserError, match="has lead times: it holds forecasts"):
        scored(tmp_path, made, "--analyses")


def test_land_and_seeps_thresholds_come_from_stores_of_their_own(tmp_path: Path) -> None:
    made = stores("poles")
    mask = made["truth"][["land_sea_mask"]]
    rain = xr.Dataset({"total_precipitation_6hr": np.abs(made["truth"]["2m_temperature"] - 270) / 4e4})
    made["truth"] = made["truth"].assign(rain).drop_vars("land_sea_mask")
    made["forecast"] = made["forecast"].assign(
        total_precipitation_6hr=np.abs(made["forecast"]["2m_temperature"] - 270) / 4e4
    )
    whole = DatasetTruth(made["truth"])
    made["climatology"] = in_memory(whole, STAMPS, window=5)
    thresholds = in_memory(whole, STAMPS, window=5, seeps=True)
    thresholds = thresholds[[name for name in thresholds if "seeps" in str(name)]]
    options = ["--land-sea-mask", str(tmp_path / "mask"), "--seeps", str(tmp_path / "thresholds")]
    results = scored(tmp_path, made, *options, "--regions", "global", "global_land", mask=mask, thresholds=thresholds)
    assert_as_written_out(results, made | {"truth": made["truth"].assign(mask)}, ("global_land",), False, IRREGULAR)
    seeps = results["total_precipitation_6hr"].sel(metric="seeps_6hr", region="global").values
    assert np.isfinite(seeps).all() and (seeps > 0.1).all()
    without = scored(tmp_path / "without", made, "--regions", "global")
    assert "seeps_6hr" not in without["metric"].values
    with pytest.raises(UserError, match="no variable land_sea_mask"):
        scored(tmp_path, made, "--land-sea-mask", str(tmp_path / "thresholds"))
    with pytest.raises(UserError, match="thresholds of no precipitation"):
        scored(tmp_path, made, "--seeps", str(tmp_path / "mask"))


def test_results_are_written_in_the_formats_asked_for(tmp_path: Path) -> None:
    made = stores("poles")
    results = scored(
        tmp_path, made, "--format", "netcdf", "zarr", "--regions", "global", "--variables", "2m_temperature"
    )
    stored = xr.open_zarr(tmp_path / "out" / "deterministic.zarr", chunks=None)
    xr.testing.assert_identical(stored.load().drop_encoding(), results)
    assert (tmp_path / "out" / "deterministic_temporal.zarr").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "yesterday"], "cannot read the times yesterday"),
        (["--storage-options", "token=anon"], "write a JSON object"),
        (["--grid", "big"], "no grid big"),
        (["--regions", "europ"], "did you mean europe"),
    ],
)
def test_options_that_cannot_be_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        scored(tmp_path, stores("poles"), *options)


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    arguments: list[Any] = ["score", *(str(tmp_path / name) for name in ("a", "b", "c", "out"))]
    with pytest.raises(UserError, match=f"cannot open .* at {tmp_path / 'a'} .*check the path"):
        app(arguments, result_action="return_value")
