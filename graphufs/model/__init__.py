"""The GraphCast network, its channels, its normalization, and the exchange of parameters with DeepMind's format."""

__all__ = [
    "arrangement", "arrays", "by_sample", "channels", "compilation_cache", "compile", "exchange", "gpu_layers",
    "keep_freed_memory", "kernels", "layers", "mlp_parts", "network", "noise", "one_step", "rows",
]  # fmt: skip
