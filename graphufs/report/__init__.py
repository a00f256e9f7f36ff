"""The report: what an experiment achieved, on one HTML page that needs nothing else."""

__all__ = [
    "charts", "comparison_page", "ensemble", "maps", "nights", "page", "scorecard", "spectra", "step", "store_page",
    "summary", "svg", "templates", "training_log", "typical", "uncertainty",
]  # fmt: skip
