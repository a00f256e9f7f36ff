"""What is scored and what it is scored against: forecasts, truths, and checks of their layout."""

__all__ = [
    "channels", "derived", "derived_truth", "forecasts", "layout_checks", "level_suffixes", "members",
    "native_layers", "precipitation", "truth",
]  # fmt: skip
