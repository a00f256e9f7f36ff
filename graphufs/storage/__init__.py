"""Files and folders: written atomically, locked, named, with their provenance."""

__all__ = ["atomic", "lock", "npz", "paths", "provenance", "zarr_io"]
