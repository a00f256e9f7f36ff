"""The commands that score any forecasts, and compare their scores."""

__all__ = ["compare", "options", "pressure_levels", "score"]
