"""Derived variables, as weatherbench2/derived_variables.py defines them, from fields in WeatherBench2's layout.

They are made of forecast and truth alike while these are read, so that nothing needs to be stored. Derivatives are of
second order and one-sided at the ends of an axis, the seam at 0 degrees included, as in WeatherBench2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import xarray as xr

from graphufs.errors import UserError
from graphufs.vocabulary.conventions import EARTH_RADIUS
from graphufs.vocabulary.derived_variables import DERIVED_VARIABLES, PHI, DerivedVariable, Q, T, U, V, check_names
from graphufs.weatherbench.inputs.precipitation import from_running_total, longer_accumulation

GRAVITY = 9.81
OMEGA = 7.292e-5
"""The Earth's angular velocity in radians a second."""
METRES_PER_DEGREE = 2 * np.pi * EARTH_RADIUS / 360

Compute = Callable[[xr.Dataset], xr.DataArray]


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
    """du/dx + dv/dy, in 1/s, on the dimensions of the wind."""
    return _d_dx(x[U]) + _d_dy(x[V])


def vorticity(x: xr.Dataset) -> xr.DataArray:
    """dv/dx - du/dy, in 1/s, on the dimensions of the wind."""
    return _d_dx(x[V]) - _d_dy(x[U])


def geostrophic_wind(x: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """(-dPhi/dy / f, dPhi/dx / f) in m/s, on the dimensions of Phi; infinite or NaN at the equator."""
    coriolis = 2 * OMEGA * np.sin(np.deg2rad(x["latitude"]))
    return -_d_dy(x[PHI]) / coriolis, _d_dx(x[PHI]) / coriolis


def ageostrophic_wind(x: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """The wind minus the geostrophic wind, eastward and northward, in m/s, on the dimensions of the wind."""
    u, v = geostrophic_wind(x)
    return x[U] - u, x[V] - v


def vertical_velocity(x: xr.Dataset) -> xr.DataArray:
    """Omega = -int div dp from the uppermost level down, in Pa/s, on the dimensions of the wind."""
    minus_divergence = -divergence(x).assign_coords(level=100.0 * x["level"])
    return minus_divergence.cumulative_integrate("level").assign_coords(level=x["level"])


def eddy_kinetic_energy(x: xr.Dataset) -> xr.DataArray:
    """Int (u'^2 + v'^2)/2 dlevel in m2/s2 hPa, without the dimension level; a prime: deviation from the zonal mean."""
    u, v = (x[name] - x[name].mean("longitude") for name in (U, V))
    return (0.5 * (u**2 + v**2)).integrate("level")


def lapse_rate(x: xr.Dataset) -> xr.DataArray:
    """dT/dp over dz/dp, in K/m, on the dimensions of T."""
    return x[T].differentiate("level") / (x[PHI].differentiate("level") / GRAVITY)


def total_column(x: xr.Dataset, species: str) -> xr.DataArray:
    """Int q dlevel / g with levels in hPa, a hundredth of the mass in kg/m2; without the dimension level."""
    return x[species].integrate("level") / GRAVITY


def integrated_vapor_transport(x: xr.Dataset) -> xr.DataArray:
    """|int q (u, v) dlevel| / g over the levels from 300 to 1000 hPa, in hPa as above; without the dimension level."""
    column = x.sel(level=slice(300, 1000))
    return _magnitude(*((column[Q] * column[wind]).integrate("level") for wind in (U, V))) / GRAVITY


def relative_humidity(x: xr.Dataset) -> xr.DataArray:
    """Mixing ratio over that of saturation after Bolton (1980), with levels in hPa; on the dimensions of T."""
    saturation = 6.112 * np.exp(17.67 * (x[T] - 273.15) / (x[T] - 29.65))
    return x[Q] / (1 - x[Q]) / (0.622 * saturation / (x["level"] - saturation))


def _accumulation(recipe: DerivedVariable) -> Compute:
    """From a running total, or from shorter accumulations where the recipe has their hours."""
    source = recipe.inputs[0]
    if not recipe.source_hours:
        return lambda x: from_running_total(x[source], recipe.hours)
    return lambda x: longer_accumulation(x[source], recipe.hours, recipe.source_hours)


COMPUTE: dict[str, Compute] = {
    "wind_speed": lambda x: _magnitude(x[U], x[V]),
    "10m_wind_speed": lambda x: _magnitude(x[f"10m_{U}"], x[f"10m_{V}"]),
    "divergence": divergence,
    "vorticity": vorticity,
    "vertical_velocity": vertical_velocity,
    "eddy_kinetic_energy": eddy_kinetic_energy,
    "geostrophic_wind_speed": lambda x: _magnitude(*geostrophic_wind(x)),
    "u_component_of_geostrophic_wind": lambda x: geostrophic_wind(x)[0],
    "v_component_of_geostrophic_wind": lambda x: geostrophic_wind(x)[1],
    "ageostrophic_wind_speed": lambda x: _magnitude(*ageostrophic_wind(x)),
    "u_component_of_ageostrophic_wind": lambda x: ageostrophic_wind(x)[0],
    "v_component_of_ageostrophic_wind": lambda x: ageostrophic_wind(x)[1],
    "lapse_rate": lapse_rate,
    "total_column_vapor": partial(total_column, species=Q),
    "total_column_liquid": partial(total_column, species="specific_cloud_liquid_water_content"),
    "total_column_ice": partial(total_column, species="specific_cloud_ice_water_content"),
    "integrated_vapor_transport": integrated_vapor_transport,
    "relative_humidity": relative_humidity,
    **{name: _accumulation(recipe) for name, recipe in DERIVED_VARIABLES.items() if recipe.hours},
}
"""How each of `DERIVED_VARIABLES` is computed."""


def check_derived(dataset: xr.Dataset, names: Iterable[str], origin: str) -> None:
    """Check that a dataset has what the derived variables are made of.

    Raises
    ------
    UserError
        If a name is unknown, or an input, its levels or the forecast's leads are missing.
    """
    names = tuple(names)
    check_names(names)
    for name in names:
        recipe = DERIVED_VARIABLES[name]
        if lacking := [needed for needed in recipe.inputs if needed not in dataset]:
            raise UserError(f"{name} is made of {', '.join(recipe.inputs)}; {origin} has no {', '.join(lacking)}")
        if recipe.column and dataset.sizes.get("level", 0) < 2:
            raise UserError(f"{name} needs at least two levels; {origin} has {dataset.sizes.get('level', 0)}")
        if recipe.hours and "prediction_timedelta" not in dataset.dims:
            raise UserError(
                f"{name} adds up leads of a forecast, and {origin} has none; store accumulations in it under the name "
                f"{recipe.variable}"
            )


def with_derived(dataset: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """The dataset with derived variables computed; see `check_derived` for what it must have."""
    if "level" in dataset.dims:
        dataset = dataset.sortby("level")
    names = tuple(names)
    inputs = dataset[sorted({needed for name in names for needed in DERIVED_VARIABLES[name].inputs})].load()
    dataset = dataset.assign(inputs)  # read once, whatever they are used for
    made = {}
    for name in names:
        recipe = DERIVED_VARIABLES[name]
        values = COMPUTE[name](inputs[list(recipe.inputs)]).astype(np.float32)
        made[recipe.variable] = values.assign_attrs(units=recipe.units)
    return dataset.assign(made)


def with_placeholders(dataset: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """The dataset with derived variables that take no memory and hold NaN, to tell dimensions and attributes from."""
    made = {}
    for name in names:
        recipe = DERIVED_VARIABLES[name]
        like = dataset[recipe.inputs[0]]
        sizes = {str(dim): size for dim, size in like.sizes.items() if dim != "level" or recipe.on_levels}
        nothing = np.broadcast_to(np.float32(np.nan), tuple(sizes.values()))
        made[recipe.variable] = (tuple(sizes), nothing, {"units": recipe.units})
    return dataset.assign(made)
