"""Replay data: where they come from and what is prepared from them."""

__all__ = [
    "axes", "decoding", "layer_means", "levels", "opening", "plausibility", "pressure_level_store", "pressure_levels",
    "reading_costs", "source", "synthetic", "times", "units", "variable_facts",
]  # fmt: skip
