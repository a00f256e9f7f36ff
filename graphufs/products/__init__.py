"""Forecasts as other tools read them: CF NetCDF, GRIB2, and zarr with chunks for object stores."""

__all__ = ["convert", "grib2", "netcdf", "publish", "run", "stac", "zarr_store"]
