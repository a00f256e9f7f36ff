"""The report: what an experiment achieved, on one HTML page that needs nothing else."""

__all__ = [
    "charts", "comparison_page", "ensemble", "ensemble_charts", "maps", "nights", "page", "plumes", "scorecard",
    "spectra", "step", "store_page", "summary", "svg", "training_log", "typical", "uncertainty",
]  # fmt: skip
