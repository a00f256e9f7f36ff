"""Training followed and sent to MLflow."""

__all__ = ["content", "follower", "tracking"]
