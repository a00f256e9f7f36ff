"""Forecasting: the autoregressive rollout and the step that writes forecasts."""

__all__ = ["from_analysis", "scored", "step", "store"]
