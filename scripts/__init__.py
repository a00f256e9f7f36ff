"""What people start from the checkout."""

__all__ = ["airflow_here", "architecture", "run_demo"]
