"""Scoring: sums over initial times that can be merged."""
