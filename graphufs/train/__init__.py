"""Training: the loss, its gradients, and the trainer."""

__all__ = [
    "compiled_steps", "devices", "divergence", "ensemble", "loss", "loss_weights", "memory_check", "metrics_file",
    "mlflow_sender", "optimizer", "reporting", "resume", "stages", "tracking", "train_step", "trainer",
    "validation_forecasts",
]  # fmt: skip
