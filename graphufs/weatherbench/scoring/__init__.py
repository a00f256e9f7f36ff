"""Scoring: sums over initial times that can be merged."""

__all__ = [
    "baselines",
    "diagnostics",
    "field_sums",
    "histograms",
    "maps",
    "member_maps",
    "members",
    "one_member",
    "parallel",
    "running_sums",
    "score",
    "score_state",
    "spectra",
]
