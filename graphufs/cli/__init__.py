"""The command line `graphufs`."""

__all__ = [
    "app", "clean", "compare", "convert", "ending", "later_steps", "main", "migrate", "models", "nightly", "plan",
    "released",
    "retraining", "score", "terminal", "verify",
]  # fmt: skip
