"""The command line `graphufs`."""

__all__ = ["app", "compare", "main", "models", "rounds", "score", "terminal", "verify"]
