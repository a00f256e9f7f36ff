"""The command line `graphufs`."""

__all__ = [
    "app", "clean", "ending", "exchange", "later_steps", "main", "migrate", "models", "nightly", "plan", "retraining",
    "scores", "terminal", "verify",
]  # fmt: skip
