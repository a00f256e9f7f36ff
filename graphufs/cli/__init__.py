"""The command line `graphufs`."""

__all__ = ["app", "compare", "main", "models", "nightly", "retraining", "score", "terminal", "verify"]
