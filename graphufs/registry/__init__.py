"""The models there are, which of them is champion, and how that came about."""

__all__ = ["decisions", "event_files", "model_experiment", "register", "registry", "rollback"]
