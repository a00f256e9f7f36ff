"""Two years of nights with housekeeping stay within bounds; benchmarks/growth.py says what of it is made up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.airflow import NO_AIRFLOW

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


def test_merged_nights_take_a_few_files(tmp_path):
    import growth

    found = growth.segments(tmp_path / "data", 70)  # checks the frames, too
    assert found["as_written"]["inodes"] > 70 * 12
    assert found["merged"]["inodes"] < 0.25 * found["as_written"]["inodes"]


@pytest.mark.long
def test_2000_nights_open_in_a_second(tmp_path):
    import growth

    found = growth.segments(tmp_path / "data", 2000)
    assert found["merged"]["open_cpu_s"] < growth.OPEN_SECONDS < found["as_written"]["open_cpu_s"]


@pytest.mark.long
def test_a_night_after_two_years_is_as_the_first(tmp_path):
    import growth

    found = growth.nights(tmp_path / "root", 730)
    assert found["missed"] == []
    assert found["with_housekeeping"]["mib"] < 0.2 * found["without_housekeeping"]["mib"]


@pytest.mark.long
@pytest.mark.skipif(bool(NO_AIRFLOW), reason=str(NO_AIRFLOW))
def test_airflow_s_database_keeps_its_last_days_alone(tmp_path):
    import growth

    found = growth.airflow(tmp_path / "airflow", 120)
    assert found["dry_run_says"] == found["removed"]
    for table in ("dag_run", "task_instance", "xcom", "log"):
        before, after = found["by_table"][table]
        assert after == pytest.approx(before * growth.AIRFLOW_DAYS / 120, rel=0.02), table
    assert not any(name.startswith("_airflow_deleted") for name in found["by_table"]), "nothing is put aside"
