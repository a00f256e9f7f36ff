"""The embedded idealised world: a small general circulation model whose output is laid out as UFS Replay is."""

__all__ = [
    "astronomy",
    "geography",
    "growing_zarr",
    "outline",
    "physics",
    "replay_layout",
    "start",
    "stochastic",
    "store",
    "world",
]
