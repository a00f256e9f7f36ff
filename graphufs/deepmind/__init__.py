"""Exchange with DeepMind's GraphCast: files, names, weights, and a check against its code."""

__all__ = [
    "as_it_is", "crosscheck", "export", "initial_report", "matching", "names", "npz", "refinement", "released",
    "rescaling", "warm_start",
]  # fmt: skip
