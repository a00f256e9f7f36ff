"""The command line `graphufs`."""

__all__ = [
    "app", "clean", "compare", "ending", "later_steps", "main", "migrate", "models", "nightly", "plan", "released",
    "retraining", "score", "terminal", "verify",
]  # fmt: skip
