"""Climatologies: computed, stored, and the thresholds SEEPS needs."""
