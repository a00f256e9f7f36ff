"""A job's state in words for a task's log."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from jobs.job import messages


def state(answer: dict[str, Any]) -> str:
    """State, number, attempt and why, in one line."""
    parts = [str(answer["state"])]
    if answer.get("id"):
        parts.append(f"id {answer['id']}")
    if (answer.get("attempt") or 1) > 1:
        parts.append(f"attempt {answer['attempt']}")
    if (answer.get("segments") or 0) > 1:
        parts.append(f"segment {answer['segments']}")
    if answer.get("what") in ("continued", "healed", "waits for a person"):
        parts.append(str(answer["what"]))
    why = ": ".join(str(word) for word in (answer.get("ending"), _first(answer.get("message"))) if word)
    return ", ".join(parts) + (f" ({why.replace('_', ' ', 1)})" if why else "")


def failure(answer: dict[str, Any]) -> str:
    """What a person should know of a job that did not end well; the reason is in the first line."""
    ending = str(answer.get("ending") or "").replace("_", " ")
    message = str(answer.get("message") or "").strip()
    step = answer.get("step", "job")
    lines = [f"{step} {answer['state']}{f', {ending}' if ending else ''}: {_first(message) or 'no reason is known'}"]
    lines += [f"  {line}" for line in message.splitlines()[1:]]
    advice = {
        "LOST": "the job's state is unknown, so it is not submitted again. Clear this task to keep waiting; if it is "
        "certain that the job is gone, run `graphufs-jobs cancel`, then clear the task",
        "BROKEN": "nothing is known of the job, which may be at work. Repair its folder, or if it is certain that the "
        "job is gone, move it away with `graphufs-jobs doctor --set-aside`; then clear this task",
        "NONE": "the site has no such job; was its folder removed, or its root changed?",
    }
    if answer["state"] in advice:
        lines.append(f"  {advice[answer['state']]}")
    if answer.get("what") == "waits for a person":
        lines.append("  correct the cause, then clear this task: the job continues from what it has saved")
    number = f", id {answer['id']}" if answer.get("id") else ""
    lines.append(f"  job:       {answer['key']}{number}")
    if answer.get("folder"):
        lines += messages.advice(str(step), PurePosixPath(answer["folder"]), answer.get("request") or {})
    return "\n".join(lines)


def _first(message: Any) -> str:
    return next((line.strip() for line in str(message or "").splitlines() if line.strip()), "")
