"""Scoring: sums over initial times that can be merged."""

__all__ = ["baselines", "diagnostics", "field_sums", "maps", "parallel", "score", "score_state", "spectra"]
