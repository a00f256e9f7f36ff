"""Scores: kept, shown, and written as official files."""

__all__ = ["contents", "display", "ensemble_files", "growing", "official_files", "parts", "scores", "table"]
