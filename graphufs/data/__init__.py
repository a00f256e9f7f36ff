"""Prepared data: what `prepare` writes below ROOT/data, and how it is read."""

__all__ = [
    "channels", "commits", "dataset", "late", "loader", "manifest", "merge", "preflight", "prepare", "sample",
    "segments", "selection", "source_identity", "static_fields", "zarr_segment",
]  # fmt: skip
