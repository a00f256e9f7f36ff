"""Files and folders: written atomically, locked, named, with their provenance."""

__all__ = [
    "atomic", "checksums", "chunks", "credentials", "formats", "in_flight", "journal", "lock", "npz", "object_stores",
    "packing", "paths", "provenance", "regular_files", "run_files", "zarr_io",
]  # fmt: skip
