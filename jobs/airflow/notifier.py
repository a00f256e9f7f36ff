"""Messages to people: JSON posted to a web address, which is an Airflow connection's, as chat services take it.

The setting `notify_connection` names the connection. Its host is the address, or the host and the path in it; what must
not be seen, such as the last part of a chat service's address, stands in its password. Neither is ever logged. Without
the setting a message goes to the log only. A message that cannot be sent changes nothing else.
"""

from __future__ import annotations

import html
import json
import urllib.error
import urllib.request
from typing import Any

from airflow.sdk import BaseNotifier

from jobs.airflow.settings import setting

TIMEOUT = 20.0
"""Seconds for the address to answer."""
LONGEST = 500
"""Characters of a reason."""


class Notifier(BaseNotifier):
    """Tell of a task that failed, or of a run that ended, which is called a `state`.

    The message is for the log only unless the setting `only_if`, where one is named, is `true`.
    """

    def __init__(self, state: str = "failed", only_if: str | None = None) -> None:
        super().__init__()
        self.state, self.only_if = state, only_if

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render nothing: a message may contain text that a person typed."""

    def notify(self, context: Any) -> None:
        """Send a message about the task or run of a callback's context."""
        content = message(context, self.state)
        self.log.info("%s", content["text"])
        try:
            name = setting("notify_connection")
            if name is None or (self.only_if and (setting(self.only_if) or "").lower() not in ("true", "1", "yes")):
                return
            trouble = post(address(name), content)
        except Exception as error:  # no message is worth a failure; its words might hold the address
            trouble = type(error).__name__
        if trouble:
            self.log.error("The message was not sent: %s", trouble)


def message(context: Any, state: str) -> dict[str, Any]:
    """What is posted: `text` for people, and its parts for programs.

    A task's failure has a reason, its first line only, and the command that shows it happening, if the job layer knows
    one.
    """
    run, ti = context.get("dag_run"), context.get("ti") or context.get("task_instance")
    error = context.get("exception")
    lines = str(error or "").splitlines() if error is not None else []
    about_task = error is not None or state == "failed"
    content: dict[str, Any] = {
        "dag": getattr(run, "dag_id", None) or getattr(ti, "dag_id", None),
        "run": getattr(run, "run_id", None) or context.get("run_id"),
        "task": getattr(ti, "task_id", None) if about_task else None,
        "state": state,
        "reason": (lines[0] if lines else str(context.get("reason") or ""))[:LONGEST],
        "log": getattr(ti, "log_url", None),
        "reproduce": next((one.partition(":")[2].strip() for one in lines if one.strip().startswith("reproduce:")), ""),
    }
    place = " ".join(str(content[name]) for name in ("dag", "task") if content[name])
    words = [f"graphufs: {place} {state}, run {content['run']}"]
    words += [content["reason"]] if content["reason"] else []
    words += [f"{name}: {content[name]}" for name in ("log", "reproduce") if content[name]]
    return {"text": html.escape("\n".join(words), quote=False), **content}  # a reason must not call a whole channel


def address(name: str) -> str:
    """The web address of a connection.

    Raises
    ------
    ValueError
        If it has none.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.log import mask_secret

    connection = BaseHook.get_connection(name)
    host, path = str(connection.host or "").rstrip("/"), str(connection.schema or "")
    scheme = path if path in ("http", "https") else connection.conn_type
    if "://" not in host:
        host = f"{scheme if scheme in ('http', 'https') else 'https'}://{host}"
        host += f":{connection.port}" if connection.port else ""
    parts = [host, "" if path in ("http", "https") else path.strip("/"), str(connection.password or "").strip("/")]
    found = "/".join(part for part in parts if part)
    mask_secret(found)
    if not connection.host or not found.startswith(("http://", "https://")):
        raise ValueError("no web address")
    return found


def post(url: str, content: dict[str, Any]) -> str:
    """Post JSON; what went wrong, in words without the address, or nothing."""
    headers = {"Content-Type": "application/json", "User-Agent": "graphufs"}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            return ""
    except urllib.error.HTTPError as error:
        return f"the address answers {error.code}"
    except (OSError, ValueError) as error:
        return f"the address cannot be reached ({type(getattr(error, 'reason', error)).__name__})"
