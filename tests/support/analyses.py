"""The same made-up weather in the layouts of analyses: WeatherBench2's, the Copernicus data store's and anemoi's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import xarray as xr

LATITUDE = np.linspace(-90.0, 90.0, 19)
LONGITUDE = np.arange(0.0, 360.0, 10.0)
LEVELS = (300, 500, 850)
START = np.datetime64("2020-01-01T00", "ns")


def weather(days: int = 6) -> xr.Dataset:
    """Fields every six hours, in WeatherBench2's names, units and order."""
    times = START + np.arange(4 * days) * np.timedelta64(6, "h")
    hours = np.arange(times.size)[:, None, None]
    lat, lon = np.deg2rad(LATITUDE)[:, None], np.deg2rad(LONGITUDE)
    wave = np.cos(lat) * np.cos(3 * lon - 0.2 * hours) + 0 * lat
    level = np.array(LEVELS)[:, None, None]
    fields = {
        "mean_sea_level_pressure": (("time", "latitude", "longitude"), 101_000 + 1500 * wave, "Pa"),
        "2m_temperature": (("time", "latitude", "longitude"), 250 + 40 * np.cos(lat) ** 2 + 5 * wave, "K"),
        "temperature": (
            ("time", "level", "latitude", "longitude"),
            220 + 0.05 * level + 30 * np.cos(lat) ** 2 + 4 * wave[:, None],
            "K",
        ),
        "geopotential_at_surface": (("latitude", "longitude"), 9000 * np.cos(lat) ** 2 + 800 * np.cos(lon), "m2 s-2"),
        "land_sea_mask": (("latitude", "longitude"), (np.cos(lat) * np.sin(lon) > 0).astype(float), "1"),
    }
    return xr.Dataset(
        {name: (dims, values.astype(np.float32), {"units": units}) for name, (dims, values, units) in fields.items()},
        {"time": times, "level": list(LEVELS), "latitude": LATITUDE, "longitude": LONGITUDE},
    )


def write_weatherbench(path: Path, dataset: xr.Dataset, *, zarr_format: int = 2) -> Path:
    """As WeatherBench2's own stores, or zipped where the path ends so."""
    folder = path.with_suffix("") if path.suffix == ".zip" else path
    dataset.to_zarr(folder, zarr_format=zarr_format, consolidated=zarr_format == 2)
    if path.suffix == ".zip":
        shutil.make_archive(str(folder), "zip", folder)
        shutil.rmtree(folder)
    return path
