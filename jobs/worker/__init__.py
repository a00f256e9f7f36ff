"""What runs inside a job."""

__all__ = ["bootstrap", "multi_process", "runner"]
