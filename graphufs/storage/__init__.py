"""Files and folders: written atomically, locked, named, with their provenance."""

__all__ = ["atomic", "lock", "paths", "provenance", "zarr_io"]
