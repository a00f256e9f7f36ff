"""The experiment: a module for each section of its file, and how it is loaded."""

__all__ = [
    "base", "credentials", "data", "evaluation", "experiment", "forecast", "identity", "loading", "model", "moved_keys",
    "nightly", "normalization", "request", "retraining", "training",
]  # fmt: skip
