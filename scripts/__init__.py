"""What people start from the checkout."""

__all__ = ["airflow_here", "architecture", "docs_site", "run_demo"]
