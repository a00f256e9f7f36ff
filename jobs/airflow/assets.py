"""The assets that the DAGs tell each other of."""

from __future__ import annotations

from airflow.sdk import Asset

STATISTICS = Asset("graphufs_statistics", group="graphufs")
"""Normalization statistics of an experiment on a site; the event says which."""
