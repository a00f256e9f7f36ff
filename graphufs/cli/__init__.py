"""The command line `graphufs`."""

__all__ = ["app", "compare", "later_steps", "main", "models", "nightly", "retraining", "score", "terminal", "verify"]
