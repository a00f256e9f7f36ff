"""A real, private Airflow with its own PostgreSQL."""

__all__ = ["api", "command", "follow", "postgresql", "settings", "stack"]
