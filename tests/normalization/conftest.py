from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lookalike import build_atmosphere, build_ocean

ABSENT, INVALID = "1994-01-15T18", "1994-02-10T18"
USED = ("tmp", "delz", "pressfc", "ugrd10m", "dswrf_avetoa", "land_static", "hgtsfc_static")


@pytest.fixture(scope="session")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty days with one stamp a day from December to March, one of them missing and one invalid."""
    return build_atmosphere(
        tmp_path_factory.mktemp("daily") / "fv3.zarr",
        count=80,
        step_hours=24,
        variables=USED,
        nan={"ugrd10m": [INVALID]},
        absent=[ABSENT],
    )


@pytest.fixture(scope="session")
def ocean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days of ocean, 6-hourly."""
    return build_ocean(tmp_path_factory.mktemp("ocean") / "mom6.zarr")
