"""Metrics: pointwise statistics, their means in space, and what is made of these."""

__all__ = [
    "diagrams",
    "ensemble",
    "ensemble_kernel",
    "ensemble_metrics",
    "gaussian",
    "kernel",
    "metrics",
    "pooling",
    "region_weights",
    "seeps",
    "spatial_mean",
]
