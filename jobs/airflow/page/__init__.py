"""The page of models in Airflow's user interface: read from the local copies of what sites hold, under Airflow's login.

`plugin` shows it to Airflow, `app` serves it, `contents` reads the copies, `charts` draws.
"""

__all__ = ["app", "charts", "contents", "formatting", "plugin"]
