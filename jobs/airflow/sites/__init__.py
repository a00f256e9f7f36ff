"""How Airflow speaks to sites."""

__all__ = ["client", "housekeeping", "poller", "reconcile"]
