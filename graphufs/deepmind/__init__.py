"""Exchange with DeepMind's GraphCast: files, names, weights, and a check against its code."""
