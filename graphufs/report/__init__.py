"""The report: what an experiment achieved, on one HTML page that needs nothing else."""

__all__ = [
    "charts", "comparison_page", "maps", "nights", "page", "scorecard", "spectra", "step", "summary", "svg",
    "training_log", "uncertainty",
]  # fmt: skip
