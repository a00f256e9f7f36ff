"""Forecasts and what they are scored against, as other tools read them: CF NetCDF, GRIB2 and zarr."""

__all__ = ["convert", "grib2", "netcdf", "publish", "references", "run", "stac", "zarr_store"]
