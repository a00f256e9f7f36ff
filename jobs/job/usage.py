"""A job's segments: every start of its work, from its own notes and from Slurm's accounting."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from jobs.job.folder import JobFolder
from jobs.job.records import moment
from jobs.scheduler import slurm

SUMS = ("gpu_hours", "queue_wait", "elapsed", "energy")
UNKNOWN_ENERGY = 2**63
"""From here on numbers of joules are Slurm's marks for none."""


def history(job: JobFolder) -> dict[str, Any]:
    """All `attempts` of a job, and their `segments`, one for each start.

    Accounting adds to a segment its queue wait [s], elapsed time [s], energy [kWh], GPU-hours and CPU efficiency (CPU
    time / (elapsed x CPUs)). Their sums are `used`; `waiting` is the share of a training's time in which updates waited
    for data, None for other steps; `silent` is what accounting said where it did not answer.
    """
    attempts, segments, silent = [], [], ""
    executor = job.require().executor
    for number in job.attempts():
        attempt = job.attempt(number)
        assert attempt is not None
        told = ("cause", "phase", "id", "begun", "resources", "message")
        attempts.append({"attempt": number, **{name: getattr(attempt, name) for name in told}})
        noted = job.segments(number)
        accounted: list[dict[str, str]] = []
        ids = {*(claim.split("_")[0] for claim in job.claims(number).values()), attempt.id} - {None}
        if executor == "slurm" and ids:
            try:
                accounted = slurm.segments({str(number) for number in ids}, moment(attempt.begun))
            except slurm.Silent as trouble:
                silent = str(trouble)
        segments += _joined(number, noted, accounted)
    return {
        "key": job.key,
        "attempts": attempts,
        "segments": segments,
        "used": used(segments),
        "waiting": _waiting(job),
        "silent": silent,
    }


def used(segments: list[dict[str, Any]]) -> dict[str, Any]:
    """What a job used over all its segments, None where accounting does not say; units as of its segments."""
    known = {name: [one[name] for one in segments if one.get(name) is not None] for name in SUMS}
    return {"segments": len(segments), **{name: round(sum(all_), 6) if all_ else None for name, all_ in known.items()}}


def _joined(attempt: int, noted: list[dict[str, Any]], accounted: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The job's own notes and accounting's rows, put together in the order of their starts."""
    used: dict[str, list[dict[str, str]]] = {}
    for row in accounted:
        if "." not in row["JobID"]:
            used.setdefault(row["JobID"], []).append({**row, **_of_steps(row, accounted)})
    found = []
    for own in noted:
        rows = used.get(str(own.get("id")), [])
        found.append(_segment(attempt, own, rows.pop(0) if rows else None))
    found += [_segment(attempt, {}, left) for rows in used.values() for left in rows]
    return found


def _of_steps(row: dict[str, str], accounted: list[dict[str, str]]) -> dict[str, str]:
    """CPU time and energy of a start: those of its steps, where an allocation's row has none, as when cut short."""
    inside = [r for r in accounted if r["JobID"].startswith(row["JobID"] + ".") and r["Start"] >= row["Start"]]
    steps = [r for r in inside if row["End"] == "Unknown" or r["Start"] <= row["End"]]
    total = seconds(row["TotalCPU"]) or sum(seconds(r["TotalCPU"]) for r in steps)
    return {"TotalCPU": str(total), "ConsumedEnergyRaw": str(_joules(row) or sum(map(_joules, steps)))}


def _joules(row: dict[str, str]) -> int:
    """The energy of a row; 0 where nothing measures it, or where the number is Slurm's for not knowing."""
    text = row["ConsumedEnergyRaw"]
    return int(text) if text.isdecimal() and int(text) < UNKNOWN_ENERGY else 0


def _segment(attempt: int, own: dict[str, Any], row: dict[str, str] | None) -> dict[str, Any]:
    steps = own.get("steps") or {}
    found: dict[str, Any] = {
        "attempt": attempt,
        "id": own.get("id") or (row or {}).get("JobID"),
        "nodes": ",".join(own.get("nodes", [])) or (row or {}).get("NodeList"),
        "start": own.get("start") or (row or {}).get("Start"),
        "end": own.get("end"),
        "reason": own.get("reason"),
        "done": steps.get("done"),
        "total": steps.get("total"),
    }
    if row is None:
        return found
    elapsed, cpus = int(row["ElapsedRaw"] or 0), int(row["AllocCPUS"] or 0)
    gpus = re.search(r"gres/gpu=(\d+)", row["AllocTRES"])
    state = row["State"].split()[0] if row["State"] else None
    found |= {
        "state": state,
        "end": found["end"] or (row["End"] if row["End"] != "Unknown" else None),
        "reason": found["reason"] or (state.lower().replace("_", " ") if state else None),
        "queue_wait": _between(row["Eligible"], row["Start"]),
        "elapsed": elapsed,
        "gpu_hours": round(elapsed * int(gpus.group(1)) / 3600, 4) if gpus else 0.0,
        "energy": round(int(row["ConsumedEnergyRaw"]) / 3.6e6, 6) or None,
        "cpu_efficiency": round(float(row["TotalCPU"]) / (elapsed * cpus), 3) if elapsed * cpus else None,
    }
    return found


def seconds(text: str) -> float:
    """Seconds of one of Slurm's durations, [D-][HH:]MM:SS[.mmm]."""
    days, _, rest = text.rpartition("-")
    total = 0.0
    for part in rest.split(":") if rest else []:
        total = 60 * total + float(part)
    return total + 86400 * int(days or 0)


def _between(first: str, second: str) -> float | None:
    try:
        return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()
    except ValueError:  # `Unknown`, `None`
        return None


def _waiting(job: JobFolder) -> float | None:
    if job.require().step != "train":
        return None
    lines = [line for line in metrics_file.read(Paths(job.experiment(), job.root).metrics) if "waiting" in line]
    return sum(line["waiting"] for line in lines) / len(lines) if lines else None
