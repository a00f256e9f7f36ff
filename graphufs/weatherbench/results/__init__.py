"""Scores: kept, shown, and written as official files."""

__all__ = ["display", "ensemble_files", "official_files", "scores", "table"]
