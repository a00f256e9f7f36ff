"""The GraphCast network, its channels, its normalization, and the exchange of parameters with DeepMind's format."""
