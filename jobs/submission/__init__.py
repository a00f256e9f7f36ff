"""Jobs submitted, launched, asked about, and put away."""

__all__ = ["launch", "poll", "prune", "submit"]
