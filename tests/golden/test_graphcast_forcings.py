"""Progress features and solar radiation against the 200 golden points of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphufs.forcings import derived_forcing, toa_incident_solar_radiation, total_solar_irradiance

Golden = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Golden:
    root = request.config.getoption("golden_root", default=None) or Path(__file__).parent
    path = Path(root) / "graphcast" / "tisr.npz"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def stamps(golden: Golden) -> np.ndarray:
    return golden["seconds_since_epoch"].astype("datetime64[s]").astype("datetime64[ns]")


def test_solar_irradiance_is_the_references(golden: Golden) -> None:
    np.testing.assert_allclose(total_solar_irradiance(stamps(golden)), golden["tsi"], rtol=1e-9)
    middles = (golden["tsi_table_time"] - 0.5).astype(int)
    middles = np.array([f"{year}-07-02T12" for year in middles], "datetime64[ns]")
    np.testing.assert_allclose(total_solar_irradiance(middles), golden["tsi_table_value"], rtol=2e-6)


@pytest.mark.parametrize("hours", [1, 6])
def test_solar_radiation_is_the_references(golden: Golden, hours: int) -> None:
    points = zip(stamps(golden), golden["lat"], golden["lon"], strict=True)
    energy = np.array([toa_incident_solar_radiation([t], [lat], [lon], hours).item() for t, lat, lon in points])
    double, single = golden[f"tisr_{hours}h_f64"], golden[f"tisr_{hours}h_f32"]
    np.testing.assert_allclose(energy, double, rtol=0, atol=1e-9 * double.max())
    np.testing.assert_allclose(energy, single, rtol=0, atol=3e-3 * double.max())


@pytest.mark.parametrize("name", ["year_progress", "day_progress"])
@pytest.mark.parametrize("wave", ["", "_sin", "_cos"])
def test_progress_is_the_references(golden: Golden, name: str, wave: str) -> None:
    points = zip(stamps(golden), golden["lat"], golden["lon"], strict=True)
    values = np.array([derived_forcing(name + wave, t, [lat], [lon]).item() for t, lat, lon in points])
    assert values.shape == golden[name + wave].shape
    np.testing.assert_allclose(values, golden[name + wave], rtol=0, atol=1e-6)
