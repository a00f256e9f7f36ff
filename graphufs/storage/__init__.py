"""Files and folders: written atomically, locked, named, with their provenance."""

__all__ = [
    "atomic", "checksums", "credentials", "formats", "journal", "lock", "npz", "object_stores", "partial_chunks",
    "paths", "provenance", "regular_files", "run_files", "whole_chunks", "zarr_io",
]  # fmt: skip
