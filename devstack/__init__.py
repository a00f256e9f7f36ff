"""What the demo and the tests start on one machine, and no wheel holds: an Airflow with PostgreSQL, and a Slurm."""

__all__ = ["airflow", "processes", "slurm"]
