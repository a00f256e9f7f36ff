"""The page of models in Airflow's environment, as the API server mounts it: its answers, and to whom."""

from __future__ import annotations

import re

import pytest

from tests.airflow.test_dags import INSIDE, PYTHON, inside

CHECKS = re.findall(r"^def (check_\w+)\(", INSIDE.with_name("inside").joinpath("page.py").read_text(), re.MULTILINE)
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"there is no {PYTHON}; `make setup-airflow` makes it")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What became of each check."""
    return inside(tmp_path_factory.mktemp("page"), "|".join(CHECKS))


@pytest.mark.parametrize("check", CHECKS)
def test_the_page(results, check):
    assert results.get(check, "it was not run") == "", results.get(check)
