"""What years of nights leave with and without housekeeping: disk, files, Airflow's rows, and the time of a night.

    python benchmarks/growth.py                       # all parts; exit code 1 if a bound is missed
    python benchmarks/growth.py segments --nights 2000

`segments`  prepared data of so many nights, a segment each, opened before and after their months are merged.
`nights`    a root of `tiny` with a real first night and two years of made-up ones, cleaned as housekeeping does it;
            real nights on the way are timed against the first.
`record`    the record of a night at 10 and at 1,440 initial times, of a model of 29 channels.
`airflow`   the rows of two years of runs in the database of a real Airflow (PostgreSQL), cleaned as they come by
            `airflow db clean`.

What is made up, the modules of the parts say: growth_segments.py, growth_nights.py, growth_airflow.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import growth_airflow
import growth_nights
import growth_segments

POINTS = (1, 10, 100, 365, 730)
"""The nights that are real and timed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("segments", "nights", "record", "airflow"), help="default: all")
    parser.add_argument("--nights", type=int, default=2000, help="of the part `segments`")
    parser.add_argument("--points", type=int, nargs="+", default=POINTS, help="the real nights of the part `nights`")
    parser.add_argument("--days", type=int, default=730, help="of the part `airflow`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to this file too")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        if given.part in (None, "segments"):
            figures["segments"] = growth_segments.segments(Path(folder) / "data", given.nights)
        if given.part in (None, "nights"):
            figures["nights"] = growth_nights.nights(Path(folder) / "root", given.points)
        if given.part in (None, "record"):
            figures["record"] = growth_nights.records(Path(folder) / "wide")
    if given.part in (None, "airflow"):
        figures["airflow"] = growth_airflow.airflow(given.days)
    for found in figures.values():
        found["machine"] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[2], 1), "system": platform.machine()}
    print(json.dumps(figures, indent=2))
    if given.json:
        before = json.loads(given.json.read_text()) if given.json.exists() else {}
        given.json.write_text(json.dumps(before | figures, indent=2) + "\n")
    missed = [line for found in figures.values() for line in found["missed"]]
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
