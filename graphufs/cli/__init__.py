"""The command line `graphufs`."""

__all__ = [
    "app", "compare", "ending", "later_steps", "main", "migrate", "models", "nightly", "retraining", "score",
    "terminal", "verify",
]  # fmt: skip
