"""Files and folders: written atomically, locked, named, with their provenance."""

__all__ = [
    "atomic", "checksums", "credentials", "formats", "lock", "npz", "object_stores", "paths", "provenance",
    "regular_files", "run_files", "whole_chunks", "zarr_io", "zstd_frames",
]  # fmt: skip
