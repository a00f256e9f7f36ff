from __future__ import annotations

import subprocess
import sys

import pytest

from graphufs.vocabulary.variables import TABLE, replay_name, weatherbench_name, weatherbench_scale


def test_names_translate_both_ways() -> None:
    pairs = {
        "pressfc": "surface_pressure",
        "tmp": "temperature",
        "ugrd10m": "10m_u_component_of_wind",
        "vgrd10m": "10m_v_component_of_wind",
        "tmp2m": "2m_temperature",
        "spfh": "specific_humidity",
        "geopotential": "geopotential",
    }
    for replay, weatherbench in pairs.items():
        assert weatherbench_name(replay) == weatherbench
        assert replay_name(weatherbench) == replay


def test_each_name_stands_for_one_quantity() -> None:
    assert len({variable.replay for variable in TABLE}) == len(TABLE)
    assert len({variable.weatherbench for variable in TABLE}) == len(TABLE)


@pytest.mark.parametrize("name", ["delz", "dzdt", "dswrf_avetoa", "soilm"])
def test_quantities_weatherbench_does_not_have_keep_their_name(name: str) -> None:
    assert weatherbench_name(name) == name
    assert weatherbench_scale(name) == 1.0


def test_a_millimetre_of_rain_in_three_hours_is_a_thousandth_of_a_metre() -> None:
    assert weatherbench_scale("prateb_ave") * (1.0 / 10800) == pytest.approx(1e-3)


def test_the_table_is_usable_without_any_array_library() -> None:
    code = "import sys, graphufs.vocabulary.variables; print({'numpy', 'xarray', 'jax'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
