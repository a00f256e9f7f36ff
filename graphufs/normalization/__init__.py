"""Normalization: mean, standard deviation and standard deviation of differences, as mergeable sums."""

__all__ = ["accumulate", "blocks", "moments", "statistics", "step", "transforms"]
