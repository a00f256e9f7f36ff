"""Climatologies: computed, stored, and the thresholds SEEPS needs."""

__all__ = ["compute", "seeps", "seeps_thresholds", "store", "thresholds"]
