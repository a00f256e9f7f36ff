"""Scores that follow WeatherBench2: its layout, its metrics, its climatology and baselines."""

__all__ = [
    "climatology", "compare", "evaluate", "inputs", "metrics", "official", "on_grid", "one_truth", "references",
    "results", "score_request", "score_stores", "scoring",
]  # fmt: skip
