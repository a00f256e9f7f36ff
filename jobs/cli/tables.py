"""Jobs for people: tables, durations, and the words for what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from jobs.doctor import Ailment
from jobs.job import messages
from jobs.job.records import duration, seconds_since
from jobs.job.status import Status
from jobs.preflight import Finding
from jobs.submission.prune import Waste

STYLES = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "PENDING": "blue",
    "SUBMITTING": "blue",
    "FAILED": "red",
    "REFUSED": "red",
    "CANCELLED": "yellow",
    "UNKNOWN": "magenta",
    "LOST": "bold magenta",
}


def progress(event: dict[str, Any] | None) -> str:
    """A progress event in one line, with its age."""
    return f"{messages.progress(event, most=2)}, {_ago(event['at'])}" if event else ""


def _ago(time: str) -> str:
    return f"{duration(max(seconds_since(time), 0.0))} ago"  # by another machine's clock it may be still to come


def jobs_table(statuses: Sequence[Status]) -> Table:
    """Jobs, a line each."""
    table = Table(box=None, pad_edge=False)
    for name in ("job", "state", "id", "attempt", "progress or reason"):
        table.add_column(name, overflow="fold", no_wrap=name in ("state", "id"))
    for status in statuses:
        words = status.ending.replace("_", " ") or status.message
        if status.state in ("UNKNOWN", "LOST"):
            words = f"since {status.since}: {status.message}"
        elif status.state in ("RUNNING", "COMPLETED"):
            words = progress(status.seen.progress) or status.message
        number = str(status.attempt.number) if status.attempt else ""
        shown = Text(status.state, style=STYLES.get(status.state, ""))
        table.add_row(status.job.key, shown, status.id or "", number, Text(words))
    return table


def history_table(history: dict[str, Any]) -> Table:
    """A job's segments."""
    table = Table(box=None, pad_edge=False)
    for name in ("attempt", "id", "nodes", "start", "end", "why it ended", "done", "waited", "GPU-h", "CPU"):
        table.add_column(name, justify="right" if name in ("done", "waited", "GPU-h", "CPU") else "left")
    for segment in history["segments"]:
        done = "" if segment["done"] is None else f"{segment['done']:,.0f}/{segment['total']:,.0f}"
        wait, efficiency = segment.get("queue_wait"), segment.get("cpu_efficiency")
        table.add_row(
            str(segment["attempt"]),
            str(segment["id"] or ""),
            Text(segment["nodes"] or ""),
            segment["start"] or "",
            segment["end"] or "",
            Text(segment["reason"] or ""),
            done,
            "" if wait is None else duration(wait),
            f"{segment['gpu_hours']:.2f}" if segment.get("gpu_hours") else "",
            "" if efficiency is None else f"{100 * efficiency:.0f} %",
        )
    return table


def ended(status: Status) -> str:
    """What a person should know of a job that did not end well: what happened, and how to see it happen."""
    first = f"{status.job.key}: {status.state}, {status.ending.replace('_', ' ')}"
    return "\n".join(
        [first, f"  {status.message}", *messages.advice(status.intent.step, status.job.path, status.intent.request)]
    )


def findings_table(site: str, findings: Sequence[Finding]) -> Table:
    """A site's preflight."""
    table = Table(title=f"site {site}", title_justify="left", box=None, pad_edge=False)
    for name in ("check", "", "what was found"):
        table.add_column(name, overflow="fold")
    marks = {True: Text("ok", "green"), False: Text("no", "red"), None: Text("?", "yellow")}
    for finding in findings:
        table.add_row(finding.what, marks[finding.good], Text(finding.words))
    return table


def ailments_table(ailments: Sequence[Ailment]) -> Table:
    """What cannot be read."""
    table = Table(box=None, pad_edge=False)
    for name in ("path", "why", "instead of setting it aside"):
        table.add_column(name, overflow="fold")
    for one in ailments:
        table.add_row(Text(str(one.path)), Text(one.reason), Text(one.instead))
    return table


def waste_table(waste: Sequence[Waste]) -> Table:
    """What may be removed."""
    table = Table(box=None, pad_edge=False)
    for name in ("folder", "MiB", "why"):
        table.add_column(name, overflow="fold", justify="right" if name == "MiB" else "left")
    for one in waste:
        table.add_row(Text(str(one.path)), f"{one.size / 2**20:,.1f}", one.reason)
    return table
