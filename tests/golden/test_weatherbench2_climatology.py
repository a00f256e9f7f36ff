"""Parity with official WeatherBench2 in climatologies."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from graphufs.vocabulary.conventions import DRY_METRES
from graphufs.weatherbench.climatology.compute import Gaps, Method, hour_of_day, triangular_sum
from graphufs.weatherbench.inputs.truth import DailyMeans, DatasetTruth
from tests.golden.weatherbench2_sets import pytest_generate_tests
from tests.support.climatology import in_memory

__all__ = ["pytest_generate_tests"]

TOLERANCE = 1e-6
DIMS = {4: ("time", "level", "latitude", "longitude"), 3: ("time", "latitude", "longitude")}


class Case:
    """The fields and official climatologies of a file."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.content = {name: file[name] for name in file.files}
        self.window = int(self.content["window"])

    @cached_property
    def stamps(self) -> np.ndarray:
        stamps = self.content["time"].astype("datetime64[h]").astype("datetime64[ns]")
        years = stamps.astype("datetime64[Y]").astype(int) + 1970
        return stamps[(years >= self.content["years"][0]) & (years <= self.content["years"][-1])]

    def truth(self, names: list[str]) -> DatasetTruth:
        fields = {name: self.content[f"in_{name}"] for name in names}
        levels = next((field.shape[1] for field in fields.values() if field.ndim == 4), 1)
        coordinates = {name: self.content[name] for name in ("latitude", "longitude")}
        coordinates |= {"time": self.content["time"].astype("datetime64[h]").astype("datetime64[ns]")}
        variables = {name: (DIMS[field.ndim], field) for name, field in fields.items()}
        return DatasetTruth(xr.Dataset(variables, {**coordinates, "level": np.arange(levels)}))

    def official_gaps(self, names: list[str]) -> Gaps:
        """How days and points without a value are filled: any way is the official one where there are none."""
        return "day365" if any(np.isnan(self.content[f"in_{name}"]).any() for name in names) else "skip"

    def official(self, prefix: str) -> dict[str, np.ndarray]:
        found = {name.removeprefix(prefix): x for name, x in self.content.items() if name.startswith(prefix)}
        if not found:
            pytest.skip(f"the file has no {prefix}*")
        return found


@pytest.mark.parametrize(
    ("prefix", "hours", "method", "gaps"),
    [
        ("hourly6", 6, "explicit", "skip"),
        ("hourly6", 6, "explicit", "day365"),
        ("hourly12", 12, "explicit", "skip"),
        ("hourly6fast", 6, "fast", "skip"),
    ],
)
def test_mean_and_standard_deviation_are_the_official_ones(
    official_climatology: Path, prefix: str, hours: int, method: Method, gaps: Gaps
) -> None:
    case = Case(official_climatology)
    means = case.official(f"{prefix}_mean_")
    if gaps != case.official_gaps(list(means)) and gaps == "skip" and method == "explicit":
        pytest.skip("the official method puts a year's day 365 where there is NaN")
    stamps = case.stamps[hour_of_day(case.stamps) % hours == 0]
    ours = in_memory(case.truth(list(means)), stamps, window=case.window, method=method, gaps=gaps, std=True)
    for name, theirs in means.items():
        np.testing.assert_allclose(ours[name].values, theirs, rtol=TOLERANCE)
        if (std := case.content.get(f"{prefix}_std_{name}")) is not None:
            np.testing.assert_allclose(ours[f"{name}_std"].values, std, rtol=TOLERANCE)


def test_the_climatology_of_daily_means_is_the_official_one(official_climatology: Path) -> None:
    case = Case(official_climatology)
    means = case.official("daily_mean_")
    days = DailyMeans(case.truth(list(means)))
    stamps = np.intersect1d(days.stamps, case.stamps)
    ours = in_memory(days, stamps, window=case.window, gaps=case.official_gaps(list(means))).sel(hour=0)
    for name, theirs in means.items():
        np.testing.assert_allclose(ours[name].values, theirs, rtol=TOLERANCE)


def test_seeps_thresholds_are_the_official_ones(official_climatology: Path) -> None:
    case = Case(official_climatology)
    names = [name for name in DRY_METRES if f"in_{name}" in case.content]
    ours = in_memory(case.truth(names), case.stamps, window=case.window, seeps=True)
    for name in names:
        for what in ("threshold", "dry_fraction"):
            theirs = case.official(f"{name}_seeps_{what}")[""]
            np.testing.assert_allclose(ours[f"{name}_seeps_{what}"].values, theirs, rtol=TOLERANCE)
    assert names


def test_the_window_is_the_official_one(official_climatology: Path) -> None:
    weights = Case(official_climatology).content["window_weights"]
    half = len(weights) // 2
    impulse = np.zeros((366, 1))
    impulse[100] = 1
    ours = triangular_sum(impulse, half)[100 - half : 101 + half, 0]
    np.testing.assert_allclose(ours / ours.mean(), weights, rtol=1e-12, atol=1e-12)
