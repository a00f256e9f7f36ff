"""Training followed and sent to MLflow."""
