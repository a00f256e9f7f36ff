"""The old place of `jobs.worker.runner.Work`, named by the payloads of jobs submitted before version 0.2.

A payload on disk is a pickle, which names the class by its module; a job that waits in a queue or is requeued reads it
long after the code has moved. It may go after release 0.2, when no such job is left.
"""

from jobs.worker.runner import Work

__all__ = ["Work"]
