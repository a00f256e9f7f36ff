"""The old place of the triggers, by which Airflow's database names those of tasks deferred before version 0.2.

The triggerer imports what is stored there; a training defers for days. It may go after release 0.2, when no such task
is left.
"""

from jobs.airflow.operators.trigger import JobTrigger, SiteTrigger

__all__ = ["JobTrigger", "SiteTrigger"]
