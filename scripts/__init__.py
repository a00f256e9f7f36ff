"""What people start from the checkout."""

__all__ = [
    "airflow_here", "architecture", "demo_pictures", "demo_runs", "demo_timings", "docs_site",
    "programs_ahead", "run_demo", "world_ahead",
]  # fmt: skip
