"""What training and forecasting share: the emulator, its domain, its rollout, its checkpoints."""

__all__ = [
    "checkpoint",
    "diagnosed",
    "domain",
    "draws",
    "emulator",
    "forecast_layout",
    "plots",
    "rollout",
    "symmetries",
]
