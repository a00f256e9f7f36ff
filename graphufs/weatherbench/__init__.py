"""Scores that follow WeatherBench2: its layout, its metrics, its climatology and baselines."""
