"""Whether one forecast scores better than another, and how sure that is."""

__all__ = ["bootstrap", "comparison", "significance"]
