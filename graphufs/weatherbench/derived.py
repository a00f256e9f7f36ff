"""Derived variables, as weatherbench2/derived_variables.py defines them, from fields in WeatherBench2's layout.

They are made of forecast and truth alike while these are read, so that nothing needs to be stored. Derivatives are of
second order and one-sided at the ends of an axis, the seam at 0 degrees included, as in WeatherBench2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.weatherbench.accumulation import from_running_total, longer_accumulation
from graphufs.weatherbench.conventions import EARTH_RADIUS

GRAVITY = 9.81
OMEGA = 7.292e-5
"""The Earth's angular velocity in radians a second."""
METRES_PER_DEGREE = 2 * np.pi * EARTH_RADIUS / 360

U, V, PHI, T, Q = "u_component_of_wind", "v_component_of_wind", "geopotential", "temperature", "specific_humidity"


@dataclass(frozen=True)
class Derived:
    """A variable made of others."""

    inputs: tuple[str, ...]
    compute: Callable[[xr.Dataset], xr.DataArray]
    units: str
    on_levels: bool = True
    """Whether it has levels."""
    column: bool = False
    """Whether it needs the levels above each other."""
    over_time: bool = False
    """Whether it needs the leads of a forecast after each other."""
    name: str = ""
    """What the variable is called, where that is not the name it is asked for by."""


def _d_dx(field: xr.DataArray) -> xr.DataArray:
    """Eastward derivative per metre; 0 at the poles."""
    cosine = np.cos(np.deg2rad(field["latitude"]))
    return (field.differentiate("longitude") / cosine / METRES_PER_DEGREE).where(cosine > 1e-6, 0.0)


def _d_dy(field: xr.DataArray) -> xr.DataArray:
    """Northward derivative per metre."""
    return field.differentiate("latitude") / METRES_PER_DEGREE


def _magnitude(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
    return (u**2 + v**2) ** 0.5


def divergence(x: xr.Dataset) -> xr.DataArray:
    """du/dx + dv/dy."""
    return _d_dx(x[U]) + _d_dy(x[V])


def vorticity(x: xr.Dataset) -> xr.DataArray:
    """dv/dx - du/dy."""
    return _d_dx(x[V]) - _d_dy(x[U])


def geostrophic_wind(x: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """(-dPhi/dy / f, dPhi/dx / f), infinite or NaN at the equator."""
    coriolis = 2 * OMEGA * np.sin(np.deg2rad(x["latitude"]))
    return -_d_dy(x[PHI]) / coriolis, _d_dx(x[PHI]) / coriolis


def ageostrophic_wind(x: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """The wind minus the geostrophic wind."""
    u, v = geostrophic_wind(x)
    return x[U] - u, x[V] - v


def vertical_velocity(x: xr.Dataset) -> xr.DataArray:
    """Omega = -int div dp from the uppermost level down, in Pa/s."""
    minus_divergence = -divergence(x).assign_coords(level=100.0 * x["level"])
    return minus_divergence.cumulative_integrate("level").assign_coords(level=x["level"])


def eddy_kinetic_energy(x: xr.Dataset) -> xr.DataArray:
    """Int (u'^2 + v'^2)/2 dlevel in m2/s2 hPa, a prime being the deviation from the zonal mean."""
    u, v = (x[name] - x[name].mean("longitude") for name in (U, V))
    return (0.5 * (u**2 + v**2)).integrate("level")


def lapse_rate(x: xr.Dataset) -> xr.DataArray:
    """dT/dp over dz/dp."""
    return x[T].differentiate("level") / (x[PHI].differentiate("level") / GRAVITY)


def total_column(x: xr.Dataset, species: str) -> xr.DataArray:
    """Int q dlevel / g with levels in hPa: a hundredth of the mass in kg/m2."""
    return x[species].integrate("level") / GRAVITY


def integrated_vapor_transport(x: xr.Dataset) -> xr.DataArray:
    """|int q (u, v) dlevel| / g over the levels from 300 to 1000 hPa, in hPa as above."""
    column = x.sel(level=slice(300, 1000))
    return _magnitude(*((column[Q] * column[wind]).integrate("level") for wind in (U, V))) / GRAVITY


def relative_humidity(x: xr.Dataset) -> xr.DataArray:
    """Mixing ratio over that of saturation after Bolton (1980), with levels in hPa."""
    saturation = 6.112 * np.exp(17.67 * (x[T] - 273.15) / (x[T] - 29.65))
    return x[Q] / (1 - x[Q]) / (0.622 * saturation / (x["level"] - saturation))


def _column_of(species: str) -> Derived:
    return Derived((species,), partial(total_column, species=species), "hPa s2 m-1", on_levels=False, column=True)


def _accumulated(hours: int) -> Derived:
    def compute(x: xr.Dataset) -> xr.DataArray:
        return from_running_total(x["total_precipitation"], hours)

    return Derived(("total_precipitation",), compute, "m", on_levels=False, over_time=True)


def _longer(hours: int, source_hours: int) -> Derived:
    source = f"total_precipitation_{source_hours}hr"

    def compute(x: xr.Dataset) -> xr.DataArray:
        return longer_accumulation(x[source], hours, source_hours)

    name = f"total_precipitation_{hours}hr"
    return Derived((source,), compute, "m", on_levels=False, over_time=True, name=name)


DERIVED: dict[str, Derived] = {
    "wind_speed": Derived((U, V), lambda x: _magnitude(x[U], x[V]), "m s-1"),
    "10m_wind_speed": Derived(
        (f"10m_{U}", f"10m_{V}"), lambda x: _magnitude(x[f"10m_{U}"], x[f"10m_{V}"]), "m s-1", on_levels=False
    ),
    "divergence": Derived((U, V), divergence, "s-1"),
    "vorticity": Derived((U, V), vorticity, "s-1"),
    "vertical_velocity": Derived((U, V), vertical_velocity, "Pa s-1", column=True),
    "eddy_kinetic_energy": Derived((U, V), eddy_kinetic_energy, "m2 s-2 hPa", on_levels=False, column=True),
    "geostrophic_wind_speed": Derived((PHI,), lambda x: _magnitude(*geostrophic_wind(x)), "m s-1"),
    "u_component_of_geostrophic_wind": Derived((PHI,), lambda x: geostrophic_wind(x)[0], "m s-1"),
    "v_component_of_geostrophic_wind": Derived((PHI,), lambda x: geostrophic_wind(x)[1], "m s-1"),
    "ageostrophic_wind_speed": Derived((U, V, PHI), lambda x: _magnitude(*ageostrophic_wind(x)), "m s-1"),
    "u_component_of_ageostrophic_wind": Derived((U, V, PHI), lambda x: ageostrophic_wind(x)[0], "m s-1"),
    "v_component_of_ageostrophic_wind": Derived((U, V, PHI), lambda x: ageostrophic_wind(x)[1], "m s-1"),
    "lapse_rate": Derived((T, PHI), lapse_rate, "K m-1", column=True),
    "total_column_vapor": _column_of(Q),
    "total_column_liquid": _column_of("specific_cloud_liquid_water_content"),
    "total_column_ice": _column_of("specific_cloud_ice_water_content"),
    "integrated_vapor_transport": Derived((U, V, Q), integrated_vapor_transport, "hPa s", on_levels=False, column=True),
    "relative_humidity": Derived((T, Q), relative_humidity, "1"),
    "total_precipitation_6hr": _accumulated(6),
    "total_precipitation_24hr": _accumulated(24),
    "total_precipitation_24hr_from_6hr": _longer(24, 6),
    "total_precipitation_6hr_from_3hr": _longer(6, 3),
    "total_precipitation_24hr_from_3hr": _longer(24, 3),
}
"""The derived variables by the name they are asked for by; those that WeatherBench2 has are called as there."""


def check_derived(dataset: xr.Dataset, names: Iterable[str], origin: str) -> None:
    """Check that a dataset has what the derived variables are made of.

    Raises
    ------
    UserError
        If a name is unknown, or an input, its levels or the forecast's leads are missing.
    """
    for name in names:
        if name not in DERIVED:
            raise UserError(f"there is no derived variable {name}; there are {', '.join(DERIVED)}")
        recipe = DERIVED[name]
        if lacking := [needed for needed in recipe.inputs if needed not in dataset]:
            raise UserError(f"{name} is made of {', '.join(recipe.inputs)}; {origin} lacks {', '.join(lacking)}")
        if recipe.column and dataset.sizes.get("level", 0) < 2:
            raise UserError(f"{name} needs at least two levels; {origin} has {dataset.sizes.get('level', 0)}")
        if recipe.over_time and "prediction_timedelta" not in dataset.dims:
            raise UserError(
                f"{name} adds up leads of a forecast, and {origin} has none; store accumulations in it under the name "
                f"{recipe.name or name}"
            )


def with_derived(dataset: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """The dataset with derived variables computed; see `check_derived` for what it must have."""
    if "level" in dataset.dims:
        dataset = dataset.sortby("level")
    names = tuple(names)
    inputs = dataset[sorted({needed for name in names for needed in DERIVED[name].inputs})].load()
    dataset = dataset.assign(inputs)  # read once, whatever they are used for
    made = {}
    for name in names:
        recipe = DERIVED[name]
        values = recipe.compute(inputs[list(recipe.inputs)]).astype(np.float32)
        made[recipe.name or name] = values.assign_attrs(units=recipe.units)
    return dataset.assign(made)


def with_placeholders(dataset: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """The dataset with derived variables that take no memory and hold NaN, to tell dimensions and attributes from."""
    made = {}
    for name in names:
        recipe = DERIVED[name]
        like = dataset[recipe.inputs[0]]
        sizes = {str(dim): size for dim, size in like.sizes.items() if dim != "level" or recipe.on_levels}
        nothing = np.broadcast_to(np.float32(np.nan), tuple(sizes.values()))
        made[recipe.name or name] = (tuple(sizes), nothing, {"units": recipe.units})
    return dataset.assign(made)
