"""The assets that the DAGs tell each other of."""

from __future__ import annotations

from airflow.sdk import Asset

STATISTICS = Asset("graphufs_statistics", group="graphufs")
"""Normalization statistics of an experiment on a site; the event says which."""

CHECKPOINT = Asset("graphufs_checkpoint", group="graphufs")
"""A model that became a candidate; the event says which, on which site, of which experiment, with which scores."""
CHAMPION = Asset("graphufs_champion", group="graphufs")
"""An experiment's champion on a site changed; the event says to which model."""
SCORES = Asset("graphufs_scores", group="graphufs")
"""A night's scores were added; the event says of which model."""
