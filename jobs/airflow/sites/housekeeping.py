"""A site's housekeeping: `graphufs-jobs clean` and `prune` there, listed in the task's log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.airflow.sites.client import SiteClient

PATIENCE = 3600.0
"""Seconds for a command: months of data may be merged. What was not done then is done the next time."""
LISTED = 200
"""Lines of each command in the task's log."""


def clean(client: SiteClient, days: Mapping[str, float], job_days: float, *, dry_run: bool) -> dict[str, Any]:
    """Clean a site's root; how many of each kind went or would go, and lines on what could not be removed.

    `days` are those of the options of `graphufs clean`, by name.

    Raises
    ------
    Unreachable, SiteError
        As the client does.
    """
    yes = [] if dry_run else ["--yes"]
    found = client.run("clean", *(f"--{name}-days={value:g}" for name, value in days.items()), *yes, timeout=PATIENCE)
    lines = [
        f"{one['path']}: {one['files']} files, {one['bytes']:,} bytes, {one['reason']}" for one in found["removable"]
    ]
    lines += [f"{one['folder']}: {one['segments']} segments become {one['become']}" for one in found["merges"]]
    lines += [f"left for the next time: {line}" for line in found["in_use"]]
    kinds: dict[str, int] = {}
    for one in found["removable"]:
        kinds[one["kind"]] = kinds.get(one["kind"], 0) + 1
    pruned = client.run("prune", f"--days={job_days:g}", *yes, timeout=PATIENCE)
    _tell(client.name, lines)
    _tell(client.name, [f"{one['path']}: {one['bytes']:,} bytes, {one['reason']}" for one in pruned["waste"]])
    kinds |= {"merged": sum(one["segments"] for one in found["merges"]), "pruned": len(pruned["waste"])}
    size = sum(one["bytes"] for one in [*found["removable"], *pruned["waste"]])
    print(f"{client.name}: {size / 2**20:,.1f} MiB {'would be removed' if dry_run else 'removed'}: {kinds}")
    return {"site": client.name, "bytes": size, "found": kinds, "failed": found["failed"]}


def _tell(site: str, lines: list[str]) -> None:
    for line in lines[:LISTED]:
        print(f"{site}: {line}")
    if len(lines) > LISTED:
        print(f"{site}: and {len(lines) - LISTED} more")
