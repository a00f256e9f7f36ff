"""Tasks of DAGs: a job, a command of a site, and what waits for them."""

__all__ = ["job", "site", "trigger"]
