"""What runs inside a job."""

__all__ = ["bootstrap", "certificate", "multi_process", "runner"]
