"""Exchange with DeepMind's GraphCast: files, names, weights, and a check against its code."""

__all__ = ["crosscheck", "export", "names", "npz", "released", "warm_start"]
