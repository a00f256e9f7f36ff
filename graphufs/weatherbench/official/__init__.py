"""The official code of WeatherBench2, run on the same stores."""

__all__ = ["engine", "experiment"]
