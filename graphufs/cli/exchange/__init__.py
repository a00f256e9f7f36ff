"""The commands that bring models and forecasts in from elsewhere, or take them out."""

__all__ = ["catalogue", "convert", "released"]
