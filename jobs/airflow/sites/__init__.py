"""How Airflow speaks to sites."""

__all__ = ["client", "poller", "reconcile"]
