"""Two years of nights with housekeeping stay within bounds; benchmarks/growth.py says what of it is made up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.airflow import NO_AIRFLOW, skip_without_airflow

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


def test_merged_nights_take_a_few_files(tmp_path):
    import growth_segments

    found = growth_segments.segments(tmp_path / "data", 70)  # checks the frames, too
    assert found["as_written"]["inodes"] > 70 * 12
    assert found["merged"]["inodes"] < 0.25 * found["as_written"]["inodes"]


@pytest.mark.long
def test_2000_nights_open_in_a_second(tmp_path):
    import growth_segments

    found = growth_segments.segments(tmp_path / "data", 2000)
    assert found["missed"] == []
    assert found["merged"]["open_cpu_s"] < min(growth_segments.OPEN_SECONDS, found["as_written"]["open_cpu_s"])


@pytest.mark.long
def test_a_night_after_two_years_is_as_the_first(tmp_path):
    import growth
    import growth_nights

    found = growth_nights.nights(tmp_path / "root", growth.POINTS)
    assert found["missed"] == []
    assert [one["night"] for one in found["points"]] == [1, 10, 100, 365, 730]
    last = found["points"][-1]
    assert last["cleaned"]["inodes"] < 0.1 * last["all_kept"]["inodes"]
    assert last["cleaned"]["mib"] < 0.5 * last["all_kept"]["mib"], "the frames stay"


@pytest.mark.long
@pytest.mark.skipif(bool(NO_AIRFLOW), reason=str(NO_AIRFLOW))
def test_airflow_s_database_keeps_its_last_days_alone():
    import growth_airflow

    skip_without_airflow()
    found = growth_airflow.airflow(days=120, every=120)
    assert found["missed"] == []
    assert found["removed"] == pytest.approx(found["dry_run_says"], rel=0.01), "but for what grew old meanwhile"
    (only,) = found["rounds"]
    before, after = only["before"]["by_table"], only["after"]["by_table"]
    for table in ("dag_run", "task_instance", "xcom", "log"):
        assert after[table] == pytest.approx(before[table] * growth_airflow.KEPT_DAYS / 120, rel=0.02), table
    assert not any(name.startswith("_airflow_deleted") for name in after), "nothing is put aside"
