"""Look-alike Replay stores: the exact 127 levels and every quirk of the real ones, on a small or the full grid.

Fields are smooth functions of place, time and level with known properties (hydrostatic thickness, pressure over
orography, night, sea ice), so that tests know the truth without reading a store.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import cftime
import numpy as np
import xarray as xr
import zarr

START = "1993-12-31T18"
RD, GRAVITY, RV = 287.05, 9.80665, 461.5
PRESSURE_LEVELS = 127

ATTRIBUTES: dict[str, dict[str, object]] = {
    "tmp": {"long_name": "temperature", "units": "K", "output_file": "dyn", "nbits": 14},
    "ugrd": {"long_name": "zonal wind", "units": "m/sec", "output_file": "dyn", "nbits": 14},
    "vgrd": {"long_name": "meridional wind", "units": "m/sec", "output_file": "dyn", "nbits": 14},
    "spfh": {"long_name": "specific humidity", "units": "kg/kg", "output_file": "dyn", "nbits": 14},
    "delz": {"long_name": "height thickness", "units": "m", "output_file": "dyn", "nbits": 14},
    "dpres": {"long_name": "pressure thickness", "units": "pa", "output_file": "dyn", "nbits": 14},
    "pressfc": {"long_name": "surface pressure", "units": "Pa", "output_file": "phy"},
    "ugrd10m": {"long_name": "10 meter u wind", "units": "m/s", "output_file": "phy"},
    "vgrd10m": {"long_name": "10 meter v wind", "units": "m/s", "output_file": "phy"},
    "tmp2m": {"long_name": "2m temperature", "units": "K", "output_file": "phy"},
    "prateb_ave": {
        "long_name": "bucket surface precipitation rate",
        "units": "kg/m**2/s",
        "output_file": "phy",
    },
    "dswrf_avetoa": {
        "long_name": "top of atmos downward shortwave flux",
        "units": "W/m**2",
        "output_file": "phy",
    },
    "land": {"long_name": "sea-land-ice mask (0-sea, 1-land, 2-ice)", "units": "numerical", "output_file": "phy"},
    "hgtsfc": {"long_name": "surface geopotential height", "units": "m", "output_file": "dyn"},
    "weasd": {"long_name": "surface snow water equivalent", "units": "kg/m**2", "output_file": "phy"},
    "hgtsfc_static": {"long_name": "surface geopotential height", "units": "m", "output_file": "dyn"},
    "land_static": {
        "long_name": "static land-sea/ice mask",
        "units": "numerical",
        "description": "1 = land, 0 = not land",
    },
}
WITH_LEVELS = ("tmp", "ugrd", "vgrd", "spfh", "delz", "dpres")
STATIC = ("hgtsfc_static", "land_static")


@cache
def hybrid_levels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients ak [Pa] and bk at the 128 interfaces and pfull [hPa] of the 127 layers, exactly as in the UFS."""
    found = importlib.util.find_spec("dinosaur")
    assert found is not None and found.submodule_search_locations
    table = Path(found.submodule_search_locations[0]) / "data" / "ufs127_hybrid_levels.csv"
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    ak, bk = (np.array([float(row[column]) for row in rows]) for column in (1, 2))
    return ak, bk, np.array([float(row[3]) for row in rows[1:]])


def gaussian_latitudes(count: int) -> np.ndarray:
    """Gaussian latitudes in degrees, from north to south."""
    return np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(count)[0]))[::-1]


class Weather:
    """Smooth fields on a grid, each a function of the stamp alone."""

    def __init__(self, latitude: np.ndarray, longitude: np.ndarray, seed: int = 0) -> None:
        self.latitude, self.longitude = latitude, longitude
        self.phi = np.deg2rad(latitude)[:, None]
        self.lam = np.deg2rad(longitude)[None, :]
        self.seed = seed
        self.ak, self.bk, self.pfull = hybrid_levels()
        bump = np.exp(-(((self.phi - 0.58) / 0.25) ** 2) - ((np.mod(self.lam, 2 * np.pi) - 1.55) / 0.45) ** 2)
        self.height = (5200.0 * bump).astype(np.float32)  # a Tibet: surface pressure falls to about 500 hPa
        self.is_land = (np.sin(2 * self.lam + 1) + 1.2 * np.sin(3 * self.phi) > 0.4) | (bump > 0.1)

    def hours(self, stamp: np.datetime64) -> float:
        return float((stamp - np.datetime64("1993-12-31T18")) / np.timedelta64(1, "h"))

    def wave(self, stamp: np.datetime64, number: int, period: float, key: int) -> np.ndarray:
        """A travelling wave of amplitude 1, [lat, lon], with noise that no level or variable shares."""
        return self.waves(stamp, number, period, key, 1)[0]

    def waves(self, stamp: np.datetime64, number: int, period: float, key: int, count: int) -> np.ndarray:
        """The same for `count` levels, each of another phase, [level, lat, lon]."""
        phase = 2 * np.pi * self.hours(stamp) / period + key + self.seed + 0.1 * np.arange(count)[:, None, None]
        smooth = np.cos(self.phi) ** 2 * np.cos(number * self.lam - phase)
        random = np.random.default_rng([self.seed, key, int(self.hours(stamp))])
        return smooth + 0.1 * random.standard_normal(smooth.shape, np.float32)

    def surface_pressure(self, stamp: np.datetime64) -> np.ndarray:
        return (101325 + 1200 * self.wave(stamp, 4, 110.0, 1)) * np.exp(-self.height / 7600)

    def temperature(self, stamp: np.datetime64, levels: Sequence[int]) -> np.ndarray:
        pressure = self.pfull[list(levels)][:, None, None]
        base = np.maximum(288 * (pressure / 1013) ** 0.19, 205) - 40 * np.sin(self.phi) ** 2 * (pressure / 1013)
        return base + 3 * self.waves(stamp, 5, 96.0, 100, PRESSURE_LEVELS)[list(levels)]

    def humidity(self, stamp: np.datetime64, levels: Sequence[int]) -> np.ndarray:
        pressure = self.pfull[list(levels)][:, None, None]
        wet = 0.015 * (pressure / 1000) ** 3 * np.cos(self.phi) ** 4
        values = 1 + 0.5 * self.waves(stamp, 6, 80.0, 400, PRESSURE_LEVELS)[list(levels)]
        return np.maximum(wet * values - 1e-5, 0.0)  # exact zeros aloft and at the poles

    def sunlight(self, stamp: np.datetime64) -> np.ndarray:
        """Mean incoming flux at the top of the atmosphere over the 3 h ending at the stamp [W/m2]; 0 at night."""
        moments = stamp - np.arange(18)[::-1] * np.timedelta64(10, "m")
        total = np.zeros((self.latitude.size, self.longitude.size))
        for moment in moments:
            day = (moment - np.datetime64("1994-01-01")) / np.timedelta64(1, "D")
            declination = np.deg2rad(-23.44) * np.cos(2 * np.pi * (day + 10) / 365.2422)
            hour_angle = 2 * np.pi * (day % 1) + self.lam - np.pi
            cosine = np.sin(self.phi) * np.sin(declination)
            cosine = cosine + np.cos(self.phi) * np.cos(declination) * np.cos(hour_angle)
            total += 1361 * np.maximum(cosine, 0)
        return total / moments.size

    def field(self, name: str, stamp: np.datetime64, levels: Sequence[int] = range(PRESSURE_LEVELS)) -> np.ndarray:
        """A variable at a stamp, float32 [lat, lon] or [level, lat, lon]."""
        return np.asarray(self._field(name, stamp, levels), np.float32)

    def _field(self, name: str, stamp: np.datetime64, levels: Sequence[int]) -> np.ndarray:
        chosen = list(levels)
        if name == "tmp":
            return self.temperature(stamp, levels)
        if name == "spfh":
            return self.humidity(stamp, levels)
        if name in ("ugrd", "vgrd"):
            key = 200 if name == "ugrd" else 300
            mean = 20.0 * np.cos(self.phi) ** 2 if name == "ugrd" else 0.0
            return mean + 6 * self.waves(stamp, 5, 96.0, key, PRESSURE_LEVELS)[chosen]
        if name in ("delz", "dpres"):
            half = self.ak[:, None, None] + self.bk[:, None, None] * self.surface_pressure(stamp)
            if name == "dpres":
                return np.diff(half, axis=0)[chosen]
            virtual = self.temperature(stamp, levels) * (1 + (RV / RD - 1) * self.humidity(stamp, levels))
            return -RD / GRAVITY * virtual * np.diff(np.log(half), axis=0)[chosen]
        if name == "pressfc":
            return self.surface_pressure(stamp)
        if name in ("ugrd10m", "vgrd10m"):
            return 5 * self.wave(stamp, 4, 100.0, 2 if name == "ugrd10m" else 3)
        if name == "tmp2m":
            return 290 - 45 * np.sin(self.phi) ** 2 + 2 * self.wave(stamp, 3, 72.0, 4)
        if name == "prateb_ave":
            return 2e-5 * np.maximum(self.wave(stamp, 6, 60.0, 5), 0)
        if name == "dswrf_avetoa":
            return self.sunlight(stamp)
        if name == "land":
            ice_edge = np.deg2rad(72 + 4 * np.cos(2 * np.pi * self.hours(stamp) / (24 * 365)))
            ice = (np.abs(self.phi) > ice_edge) & ~self.is_land
            return np.where(ice, 2.0, np.where(self.is_land, 1.0, 0.0))
        if name in ("hgtsfc", "hgtsfc_static"):
            return self.height
        if name == "land_static":
            return self.is_land.astype(np.float64)
        if name == "weasd":
            return np.where(self.is_land, 30 * np.sin(self.phi) ** 2 * (1.2 + self.wave(stamp, 2, 500.0, 6)), 0.0)
        raise KeyError(name)


def stamps_from(start: str, count: int, step_hours: int) -> np.ndarray:
    return np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(step_hours, "h")


def build_atmosphere(
    path: Path,
    *,
    start: str = START,
    count: int = 40,
    step_hours: int = 3,
    latitudes: int = 8,
    longitudes: int = 16,
    variables: Sequence[str] = tuple(ATTRIBUTES),
    pfull: str = "float32",
    time_coordinates: bool = True,
    nan: Mapping[str, Sequence[str]] | None = None,
    absent: Sequence[str] = (),
    subsampled_from: int | None = None,
    zarr_format: int = 2,
    seed: int = 0,
) -> Path:
    """Write an fv3 store in the layout of the real ones, and return its path.

    pfull is `float32` (as real), `float64`, or `rounded` (to four decimals). `nan` maps a variable to stamps at which
    it is NaN everywhere; `absent` lists stamps the store leaves out. `subsampled_from` takes every k-th row and
    column of a Gaussian grid with that many rows.
    """
    if subsampled_from:
        factor = subsampled_from // latitudes
        latitude = gaussian_latitudes(subsampled_from)[::factor]
    else:
        latitude = gaussian_latitudes(latitudes)
    longitude = np.arange(longitudes) * (360.0 / longitudes)
    weather = Weather(latitude, longitude, seed)
    stamps = stamps_from(start, count, step_hours)
    stamps = stamps[~np.isin(stamps, np.array(list(absent), "datetime64[ns]"))]
    flawed = {name: np.array(list(times), "datetime64[ns]") for name, times in (nan or {}).items()}
    levels = weather.pfull.astype(np.float32)
    levels = {"float32": levels, "float64": levels.astype(np.float64), "rounded": np.round(weather.pfull, 4)}[pfull]
    header = xr.Dataset(
        coords={
            "time": ("time", stamps, {"axis": "T", "long_name": "time"}),
            "pfull": (
                "pfull",
                levels,
                {"long_name": "ref full pressure level", "units": "mb", "positive": "down", "edges": "phalf"},
            ),
            "grid_yt": ("grid_yt", latitude, {"long_name": "T-cell latitude", "units": "degrees_N"}),
            "grid_xt": ("grid_xt", longitude, {"long_name": "T-cell longitude", "units": "degrees_E"}),
        },
        attrs={"description": "look-alike of the UFS Replay", "license": "none: made up"},
    )
    if time_coordinates:
        # As in the real stores: Julian objects showing the Gregorian date, and a lead time of inconsistent sign.
        dates = [cftime.DatetimeJulian(*_fields(stamp)) for stamp in stamps]
        header = header.assign_coords(
            cftime=("time", np.array(dates, object), {"calendar_type": "JULIAN", "long_name": "time"}),
            ftime=("time", np.full(stamps.size, np.timedelta64(-6, "h"), "timedelta64[ns]"), {"long_name": "ftime"}),
        )
    header.to_zarr(path, mode="w", zarr_format=zarr_format, consolidated=False)
    for name in variables:
        attributes = {**ATTRIBUTES[name], "cell_methods": "time: point"}
        if name in STATIC:
            values = weather.field(name, stamps[0])
            values = values.astype(np.int32) if name == "land_static" else values
            xr.Dataset({name: (("grid_yt", "grid_xt"), values, attributes)}).to_zarr(
                path, mode="a", zarr_format=zarr_format, consolidated=False
            )
            continue
        vertical = ("pfull",) if name in WITH_LEVELS else ()
        dimensions = ("time", *vertical, "grid_yt", "grid_xt")
        chunk = (1, *((levels.size,) if vertical else ()), latitude.size, longitude.size)
        bad = flawed.get(name, stamps[:0])
        _write_by_stamp(path, name, weather, stamps, bad, dimensions, chunk, attributes, zarr_format)
    zarr.consolidate_metadata(str(path), zarr_format=zarr_format)
    return path


def rewrite(
    path: Path,
    name: str,
    change: Callable[[np.ndarray], np.ndarray] = lambda values: values,
    dimensions: Sequence[str] | None = None,
    **attributes: object,
) -> None:
    """Put other values in place of those of an array of a store of format 2, and other attributes; None drops one.

    `_FillValue` is the fill value of the new array. The order of dimensions is as it was if it is not given.
    """
    group = zarr.open_group(str(path), mode="a", zarr_format=2)
    old = group[name]
    values = np.asarray(change(np.asarray(old[...])))
    kept = {**dict(old.attrs), **({"_ARRAY_DIMENSIONS": list(dimensions)} if dimensions else {}), **attributes}
    fill = kept.pop("_FillValue", np.nan if values.dtype.kind == "f" else None)
    # Few chunks, since tests read whole stores.
    array = group.create_array(name, data=values, fill_value=fill, overwrite=True)
    array.attrs.update({key: value for key, value in kept.items() if value is not None})
    zarr.consolidate_metadata(str(path), zarr_format=2)


def _write_by_stamp(
    path: Path,
    name: str,
    weather: Weather,
    stamps: np.ndarray,
    flawed: np.ndarray,
    dimensions: tuple[str, ...],
    chunk: tuple[int, ...],
    attributes: dict[str, object],
    zarr_format: int,
) -> None:
    """One stamp at a time, so that the full grid does not need the memory of the whole record."""
    group = zarr.open_group(str(path), mode="a", zarr_format=zarr_format)
    array = group.create_array(
        name,
        shape=(stamps.size, *chunk[1:]),
        chunks=chunk,
        dtype="float32",
        fill_value=np.nan,
        **({"dimension_names": dimensions} if zarr_format == 3 else {}),
    )
    coordinates = "cftime ftime"
    array.attrs.update({**attributes, "coordinates": coordinates})
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = list(dimensions)
    for index, stamp in enumerate(stamps):
        if stamp not in flawed:  # a chunk never written reads as NaN, as in the real stores
            array[index] = weather.field(name, stamp)


def _fields(stamp: np.datetime64) -> tuple[int, int, int, int]:
    time = stamp.astype("datetime64[s]").item()
    return time.year, time.month, time.day, time.hour


def build_ocean(
    path: Path,
    *,
    start: str = START,
    count: int = 20,
    step_hours: int = 6,
    latitudes: int = 8,
    longitudes: int = 16,
    nan: Mapping[str, Sequence[str]] | None = None,
    holes: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Path:
    """Write a mom6 store: temp and so on z_l, ho on zl, SSH, NaN over land (more of it at depth), landsea_mask.

    `nan` makes a variable NaN everywhere at stamps, `holes` at a single sea point.
    """
    latitude = gaussian_latitudes(latitudes)
    longitude = np.arange(longitudes) * (360.0 / longitudes)
    weather = Weather(latitude, longitude, seed)
    stamps = stamps_from(start, count, step_hours)
    depth = np.array([0.5, 1.6, 2.7, 3.9, 5.2, 10.0, 22.9, 50.0, 103.0, 498.0])
    shallow = weather.wave(stamps[0], 2, 1e9, 9)
    land = np.stack([weather.is_land | (shallow > 1.2 - 0.1 * level) for level in range(depth.size)])
    flawed = {name: np.array(list(times), "datetime64[ns]") for name, times in (nan or {}).items()}
    pierced = {name: np.array(list(times), "datetime64[ns]") for name, times in (holes or {}).items()}

    def field(name: str, stamp: np.datetime64) -> np.ndarray:
        if name == "SSH":
            values = np.where(land[0], np.nan, 0.5 * weather.wave(stamp, 3, 200.0, 50))
        else:
            key, mean, amplitude = {"temp": (600, 15.0, 4.0), "so": (700, 35.0, 0.5), "ho": (800, 0.0, 0.05)}[name]
            waves = weather.waves(stamp, 3, 200.0, key, depth.size)
            thickness = np.gradient(depth)[:, None, None]
            values = thickness * (1 + amplitude * waves) if name == "ho" else mean + amplitude * waves
            values = np.where(land, np.nan, values)
        if stamp in flawed.get(name, stamps[:0]):
            values = np.full_like(values, np.nan)
        if stamp in pierced.get(name, stamps[:0]):
            row, column = np.argwhere(~land[-1])[0]
            values[..., row, column] = np.nan
        return values.astype(np.float32)

    def variable(name: str, long_name: str, units: str) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
        vertical = {"SSH": (), "ho": ("zl",)}.get(name, ("z_l",))
        values = np.stack([field(name, stamp) for stamp in stamps])
        attributes = {"long_name": long_name, "units": units, "regrid_method": "conservative"}
        return ("time", *vertical, "lat", "lon"), values, attributes

    dataset = xr.Dataset(
        {
            "temp": variable("temp", "Potential Temperature", "degC"),
            "so": variable("so", "Salinity", "psu"),
            "ho": variable("ho", "Layer thickness", "m"),
            "SSH": variable("SSH", "Sea Surface Height", "m"),
            "landsea_mask": (("z_l", "lat", "lon"), (~land).astype(np.int32), {"long_name": "land-sea mask"}),
        },
        coords={
            "time": stamps,
            "z_l": ("z_l", depth, {"units": "meters", "positive": "down"}),
            "zl": ("zl", depth, {"units": "meters", "positive": "down"}),
            "lat": ("lat", latitude),
            "lon": ("lon", longitude),
        },
    )
    encoding = {name: {"chunks": (1, *dataset[name].shape[1:])} for name in ("temp", "so", "ho", "SSH")}
    dataset.to_zarr(path, mode="w", zarr_format=2, consolidated=True, encoding=encoding)
    return path
