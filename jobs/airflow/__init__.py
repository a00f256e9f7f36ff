"""What connects Airflow to the job protocol: the operator, its trigger, and one poller a site.

Imported by DAG files, Airflow's workers and its triggerer, and by nothing else of this repository. It speaks to a site
only through `graphufs-jobs`, so it needs neither the site's files nor anything of the job side's environment.
"""

__all__ = [
    "assets", "cleanup", "forms", "keys", "messages", "mirror", "notifier", "operators", "page", "pools",
    "settings", "sites", "tasks", "trigger",
]  # fmt: skip
