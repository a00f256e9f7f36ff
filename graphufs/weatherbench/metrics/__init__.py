"""Metrics: pointwise statistics, their means in space, and what is made of these."""

__all__ = ["kernel", "metrics", "region_weights", "seeps", "spatial_mean"]
