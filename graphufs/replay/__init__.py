"""Replay data: where they come from and what is prepared from them."""

__all__ = [
    "experiment_source", "levels", "pressure_level_store", "pressure_levels", "source", "synthetic", "times",
    "variable_facts",
]  # fmt: skip
