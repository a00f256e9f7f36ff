"""What of a root nobody needs any more, and for how long it is kept."""

__all__ = ["removable", "retention"]
