"""Scores: kept, shown, and written as official files."""
