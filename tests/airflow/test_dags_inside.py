"""Runs what is checked inside Airflow's environment, which has no pytest: started by `test_dags.py` as a script.

The checks share a small Airflow on SQLite, and the last ones real jobs of the local site. ONLY=<regular expression>
chooses some.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = ("operators", "triggers", "over_ssh", "messages", "copies", "page", "dags", "nights", "retraining")
"""In the order they run in."""


def checks() -> Iterator[tuple[str, Callable[[], None]]]:
    """All checks, by name."""
    for module in MODULES:
        for name, check in vars(importlib.import_module(f"inside.{module}")).items():
            if name.startswith("check_"):
                yield name, check


def main(report: Path) -> None:
    started = time.process_time()
    import airflow.sdk  # what every DAG file has cost before its own imports
    from airflow.dag_processing import dagbag

    spent, begun = {"airflow": time.process_time() - started}, time.process_time()
    for path in (ROOT / "dags").glob("*.py"):
        exec(compile(path.read_text(), path, "exec"), {"__name__": "dag", "__doc__": ""})
        spent[path.stem], begun = time.process_time() - begun, time.process_time()
    heavy = sorted(
        {name.split(".")[0] for name in sys.modules} & {"jax", "xarray", "numpy", "zarr", "submitit", "asyncssh"}
    )
    del airflow, dagbag
    results = {"spent": spent, "heavy": heavy}
    report.write_text(json.dumps(results))

    from airflow.utils.db import initdb

    initdb()
    from jobs.airflow.operators import trigger

    trigger.SETTLE = 0.0  # there is no scheduler here that could take things amiss
    only = os.environ.get("ONLY", "")
    for name, check in checks():
        if re.search(only, name):
            begun = time.perf_counter()
            try:
                check()
                results[name] = ""
            except BaseException:
                results[name] = traceback.format_exc()
            print(f"{name}: {time.perf_counter() - begun:.1f} s {'FAILED' if results[name] else ''}", flush=True)
            report.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
