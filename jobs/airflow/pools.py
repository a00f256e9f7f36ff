"""The pools that the DAGs need, as `airflow pools import` reads them.

    python -m jobs.airflow.pools > pools.json && airflow pools import pools.json

A task waits in its pool for a slot while it speaks to a site; while its job runs it is deferred and holds none. So a
pool bounds how many commands run on a login node at once, not how many jobs.
"""

from __future__ import annotations

import json
from typing import Any

from jobs.airflow.forms import choices

SLOTS = 16


def pools() -> dict[str, dict[str, Any]]:
    """By name: those of the sites, and the one of tasks whose site is chosen in a form."""
    found: dict[str, list[str]] = {}
    for site in choices.sites():
        found.setdefault(str(choices.pool_of(site)), []).append(site)
    found.setdefault(choices.pool(), [])
    return {
        name: {
            "slots": SLOTS,
            "description": f"Commands on {', '.join(sites) or 'sites that are chosen in a form'}",
            "include_deferred": False,
        }
        for name, sites in sorted(found.items())
    }


if __name__ == "__main__":
    print(json.dumps(pools(), indent=2))
