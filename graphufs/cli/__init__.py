"""The command line `graphufs`."""

__all__ = [
    "app", "compare", "ending", "later_steps", "main", "models", "nightly", "plan",
    "retraining", "score", "terminal", "verify",
]  # fmt: skip
