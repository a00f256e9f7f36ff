"""Training: the loss, its gradients, and the trainer."""

__all__ = [
    "compiling", "devices", "divergence", "division", "ensemble", "loss", "loss_weights", "metrics_file",
    "mlflow_sender", "optimizer", "reporting", "resume", "stages", "tracking", "train_step", "trainer",
    "validation_forecasts", "vectors",
]  # fmt: skip
