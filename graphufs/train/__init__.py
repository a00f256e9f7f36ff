"""Training: the loss, its gradients, and the trainer."""

__all__ = [
    "collapse", "compiled_steps", "devices", "divergence", "loss", "loss_weights", "members", "memory_check",
    "metrics_file", "mlflow_sender", "optimizer", "reporting", "resume", "stages", "tracking",
    "train_step", "trainer", "validation_forecasts",
]  # fmt: skip
