from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lookalike import build_atmosphere, build_ocean

INVALID, ABSENT = "1994-01-03T00", "1994-01-05T06"
USED = ("tmp", "delz", "pressfc", "ugrd10m", "dswrf_avetoa", "weasd", "land", "land_static", "hgtsfc_static")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve days, 3-hourly, without flaws."""
    return build_atmosphere(tmp_path_factory.mktemp("store") / "fv3.zarr", count=8 * 12, variables=USED)


@pytest.fixture(scope="session")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with weasd all NaN at one stamp, and with another stamp missing."""
    return build_atmosphere(
        tmp_path_factory.mktemp("flawed") / "fv3.zarr",
        count=8 * 12,
        variables=USED,
        nan={"weasd": [INVALID]},
        absent=[ABSENT],
    )


@pytest.fixture(scope="session")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty days with one stamp a day at 18 UTC, from December to March."""
    return build_atmosphere(tmp_path_factory.mktemp("daily") / "fv3.zarr", count=80, step_hours=24, variables=USED)


@pytest.fixture(scope="session")
def ocean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days of ocean, 6-hourly."""
    return build_ocean(tmp_path_factory.mktemp("ocean") / "mom6.zarr")
