"""Scores: kept, shown, and written as official files."""

__all__ = ["display", "official_files", "scores", "table"]
