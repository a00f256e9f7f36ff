"""Jobs submitted, launched, asked about, and put away."""

__all__ = ["attempts", "launch", "poll", "prune", "submit", "tend"]
