"""A real, private Airflow with its own PostgreSQL."""
