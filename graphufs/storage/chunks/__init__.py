"""Compressed chunks of stores: decoded within bounds, and read in part."""

__all__ = ["partial_chunks", "whole_chunks", "zstd_frames"]
