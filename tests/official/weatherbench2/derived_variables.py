"""One derived variable."""

from __future__ import annotations

import xarray as xr


class WindSpeed:
    base_variables = ("u_component_of_wind", "v_component_of_wind")

    def compute(self, dataset: xr.Dataset) -> xr.DataArray:
        u, v = (dataset[name] for name in self.base_variables)
        return (u**2 + v**2) ** 0.5


DERIVED_VARIABLE_DICT = {"wind_speed": WindSpeed()}
