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


STEPS = {
    "mean_sea_level_pressure": 16.0,
    "2m_temperature": 64.0,
    "temperature": 64.0,
    "geopotential": 0.5,
    "geopotential_at_surface": 4.0,
    "land_sea_mask": 1.0,
}
"""Steps in a unit in which values come, so that integers of 16 bits and GRIB's packing hold them exactly."""


def weather(days: int = 6) -> xr.Dataset:
    """Fields every six hours, in WeatherBench2's names, units and order."""
    times = START + np.arange(4 * days) * np.timedelta64(6, "h")
    hours = np.arange(times.size)[:, None, None]
    lat, lon = np.deg2rad(LATITUDE)[:, None], np.deg2rad(LONGITUDE)
    wave = np.cos(lat) * np.cos(3 * lon - 0.2 * hours) + 0 * lat
    level = np.array(LEVELS)[:, None, None]
    on_levels = ("time", "level", "latitude", "longitude")
    fields = {
        "mean_sea_level_pressure": (("time", "latitude", "longitude"), 101_000 + 1500 * wave, "Pa"),
        "2m_temperature": (("time", "latitude", "longitude"), 250 + 40 * np.cos(lat) ** 2 + 5 * wave, "K"),
        "temperature": (on_levels, 220 + 0.05 * level + 30 * np.cos(lat) ** 2 + 4 * wave[:, None], "K"),
        "geopotential": (on_levels, 71_000 * np.log(1000 / level) + 800 * wave[:, None], "m2 s-2"),
        "geopotential_at_surface": (("latitude", "longitude"), 9000 * np.cos(lat) ** 2 + 800 * np.cos(lon), "m2 s-2"),
        "land_sea_mask": (("latitude", "longitude"), (np.cos(lat) * np.sin(lon) > 0).astype(float), "1"),
    }
    return xr.Dataset(
        {
            name: (dims, (np.round(values * STEPS[name]) / STEPS[name]).astype(np.float32), {"units": units})
            for name, (dims, values, units) in fields.items()
        },
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


SHORT = {
    "mean_sea_level_pressure": "msl",
    "2m_temperature": "t2m",
    "temperature": "t",
    "geopotential": "z",
    "geopotential_at_surface": "z",
    "land_sea_mask": "lsm",
}
"""The data store's names of these variables."""
UNITS = {"m2 s-2": "m**2 s**-2", "1": "(0 - 1)"}
"""The data store's spelling of units."""


def delivered(dataset: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The fields as the data store orders and names them, static ones at all times: on levels, and at the surface."""
    times = dataset["time"]
    dataset = dataset.map(lambda array: array if "time" in array.dims else array.expand_dims(time=times))
    dataset = dataset.map(lambda array: array.assign_attrs(units=UNITS.get(array.units, array.units)))
    dataset = dataset.isel(latitude=slice(None, None, -1), level=slice(None, None, -1))
    levels = [str(name) for name, array in dataset.items() if "level" in array.dims]
    return tuple(
        those.rename({name: SHORT[name] for name in map(str, those)})
        for those in (dataset[levels], dataset.drop_vars([*levels, "level"]))
    )


def write_data_store(folder: Path, dataset: xr.Dataset) -> Path:
    """As the data store delivers NetCDF: surface and levels apart, each in two files."""
    folder.mkdir()
    for kind, those in zip(("pressure", "single"), delivered(dataset), strict=True):
        those = those.rename(time="valid_time")
        if kind == "pressure":
            those = those.assign_coords(level=those["level"].astype(float).assign_attrs(units="hPa"))
            those = those.rename(level="pressure_level")
        those = those.assign_coords(number=0, expver=("valid_time", ["0001"] * those.sizes["valid_time"]))
        half = those.sizes["valid_time"] // 2
        for number, part in enumerate((slice(0, half), slice(half, None))):
            those.isel(valid_time=part).to_netcdf(folder / f"{kind}-{number}.nc")
    return folder


def write_former_data_store(folder: Path, dataset: xr.Dataset) -> Path:
    """As the data store delivered NetCDF until 2024: time and level, values packed in 16 bits."""
    folder.mkdir()
    for kind, those in zip(("pressure", "single"), delivered(dataset), strict=True):
        those = those.assign_coords(longitude=those["longitude"].astype(np.float32))
        packing = {}
        for name, array in those.items():
            step = {"z": 2.0 if kind == "pressure" else 0.25, "msl": 1 / 16, "lsm": 1.0}.get(str(name), 1 / 64)
            offset = float(array.min()) + step * 2**14
            packing[name] = {"dtype": "int16", "scale_factor": step, "add_offset": offset, "_FillValue": -32767}
        if kind == "pressure":
            those = those.assign_coords(level=those["level"].astype(np.int32).assign_attrs(units="millibars"))
        packing["time"] = {"dtype": "int32", "units": "hours since 1900-01-01 00:00:00.0", "calendar": "gregorian"}
        those.to_netcdf(folder / f"{kind}.nc", encoding=packing)
    return folder


def write_grib(path: Path, dataset: xr.Dataset, **keys: object) -> Path:
    """As the data store delivers GRIB: all variables in one file, a message a field; `keys` are set in each."""
    with path.open("wb") as file:
        for those in delivered(dataset):
            for name, array in those.items():
                for index in np.ndindex(*array.shape[:-2]):
                    at = dict(zip(array.dims, index, strict=False))
                    level = int(array["level"].values[at["level"]]) if "level" in at else None
                    file.write(message(str(name), array.values[index], array["time"].values[at["time"]], level, keys))
    return path


def message(
    name: str,
    values: np.ndarray,
    when: np.datetime64,
    level: int | None,
    keys: dict[str, object] | None = None,
    *,
    edition: int = 1,
) -> bytes:
    """A field [lat, lon], from north to south, as a GRIB message of ECMWF's."""
    import eccodes

    made = eccodes.codes_grib_new_from_samples(f"regular_ll_{'sfc' if level is None else 'pl'}_grib{edition}")
    moment = when.astype("datetime64[m]").item()
    own: dict[str, object] = {
        "centre": "ecmf",
        "setLocalDefinition": 1,
        "localDefinitionNumber": 1,
        "expver": "0001",
        "Ni": values.shape[1],
        "Nj": values.shape[0],
        "latitudeOfFirstGridPointInDegrees": 90.0,
        "latitudeOfLastGridPointInDegrees": -90.0,
        "longitudeOfFirstGridPointInDegrees": 0.0,
        "longitudeOfLastGridPointInDegrees": 360.0 - 360.0 / values.shape[1],
        "iDirectionIncrementInDegrees": 360.0 / values.shape[1],
        "jDirectionIncrementInDegrees": 180.0 / (values.shape[0] - 1),
        "dataDate": int(moment.strftime("%Y%m%d")),
        "dataTime": 100 * moment.hour,
        "shortName": {"t2m": "2t"}.get(name, name),
        **({} if level is None else {"typeOfLevel": "isobaricInhPa", "level": level}),
        "bitsPerValue": 24,
        **(keys or {}),
    }
    for key, value in own.items():
        eccodes.codes_set(made, key, value)
    eccodes.codes_set_values(made, values.astype(np.float64).ravel())
    content: bytes = eccodes.codes_get_message(made)
    eccodes.codes_release(made)
    return content


def write_anemoi(
    path: Path,
    dataset: xr.Dataset,
    *,
    missing: tuple[str, ...] = (),
    members: int = 1,
    named: bool = True,
    metadata: dict[str, object] | None = None,
) -> Path:
    """As anemoi-datasets writes it: north first, levels among the names of variables, statistics beside.

    Unless `named`, arrays do not say what their dimensions are.
    """
    import zarr

    columns = {}
    for those in delivered(dataset):
        for name, array in those.items():
            own = {"t2m": "2t"}.get(str(name), str(name))
            if "level" in array.dims:
                columns |= {f"{own}_{level}": array.sel(level=level).values for level in array["level"].values}
            else:
                columns[own] = array.values
    columns = dict(sorted(columns.items()))
    data = np.stack([values.reshape(dataset.sizes["time"], -1) for values in columns.values()], axis=1)[:, :, None]
    data = np.repeat(data, members, axis=2).astype(np.float32)
    for date in missing:
        data[dataset["time"].values == np.datetime64(date)] = np.nan
    latitude, longitude = np.meshgrid(dataset["latitude"].values[::-1], dataset["longitude"], indexing="ij")
    arrays = {
        "data": (data, ["time", "variable", "ensemble", "cell"]),
        "dates": (dataset["time"].values.astype("datetime64[s]"), ["time"]),
        "latitudes": (latitude.ravel(), ["cell"]),
        "longitudes": (longitude.ravel(), ["cell"]),
        "mean": (np.nanmean(data, axis=(0, 2, 3)), ["variable"]),
        "stdev": (np.nanstd(data, axis=(0, 2, 3)), ["variable"]),
    }
    group = zarr.create_group(path, zarr_format=2)
    for name, (values, dimensions) in arrays.items():
        chunks = (1, *values.shape[1:]) if name == "data" else values.shape
        array = group.create_array(name, data=values, chunks=chunks)
        if named:
            array.attrs["_ARRAY_DIMENSIONS"] = dimensions
    group.attrs.update(variables=list(columns), missing_dates=list(missing), variables_metadata=metadata or {})
    return path
