"""Training: the loss, its gradients, and the trainer."""
