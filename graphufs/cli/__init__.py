"""The command line `graphufs`."""

__all__ = ["app", "compare", "ending", "main", "models", "nightly", "retraining", "score", "terminal", "verify"]
