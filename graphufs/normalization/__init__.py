"""Normalization: mean, standard deviation and standard deviation of differences, as mergeable sums."""
