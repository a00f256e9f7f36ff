"""How Airflow speaks to sites."""
