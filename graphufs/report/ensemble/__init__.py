"""What a page shows of an ensemble: its part of the page, its charts, plumes at points."""

__all__ = ["ensemble_charts", "part", "plumes"]
