"""What is scored and what it is scored against: forecasts, truths, and checks of their layout."""
