"""Metrics: pointwise statistics, their means in space, and what is made of these."""
