"""Airflow's public API, as little of it as the demo and the tests need; nothing but the standard library.

api = Api(stack.url, "admin", stack.passwords["admin"])
run = api.trigger("training", {"steps": 10})
api.wait("training", run)
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

FINISHED = ("success", "failed")


class ApiError(RuntimeError):
    """The API refused a request; says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """A user's session with an Airflow. It logs in when it is first asked something, and again when needed."""

    def __init__(self, url: str, user: str, password: str, seconds: float = 60) -> None:
        self.url, self.seconds = url, seconds
        self._login = {"username": user, "password": password}
        self._token = ""
        # Straight to it, past any proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def token(self) -> str:
        """Log in; the token that every request carries."""
        self._token = self._send("POST", "/auth/token", self._login)["access_token"]
        return self._token

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Send a request; `path` is what comes after /api/v2. Its answer, from JSON."""
        path = f"/api/v2{path}" + (f"?{urllib.parse.urlencode(query, doseq=True)}" if query else "")
        if not self._token:
            self.token()
        try:
            return self._send(method, path, body)
        except ApiError as error:
            if error.status != 401:
                raise
        self.token()
        return self._send(method, path, body)

    def _send(self, method: str, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if not path.startswith("/auth/"):
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=self.seconds) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                detail = json.loads(text)["detail"]
            except (ValueError, KeyError, TypeError):
                detail = text
            raise ApiError(error.code, detail if isinstance(detail, str) else json.dumps(detail)) from None
        return json.loads(content) if content else None

    def unpause(self, dag: str) -> None:
        """Let a DAG run."""
        self.request("PATCH", f"/dags/{_part(dag)}", {"is_paused": False})

    def pause(self, dag: str) -> None:
        """Let a DAG start nothing more; what runs goes on."""
        self.request("PATCH", f"/dags/{_part(dag)}", {"is_paused": True})

    def paused(self, dag: str) -> bool | None:
        """Whether a DAG is paused; None where Airflow knows no such DAG, or not yet."""
        try:
            its: bool = self.request("GET", f"/dags/{_part(dag)}")["is_paused"]
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        return its

    def trigger(self, dag: str, conf: dict[str, Any] | None = None, run: str | None = None) -> str:
        """Start a run of a DAG with these parameters, and with this id if one is given; the run's id.

        Raises
        ------
        ApiError
            With the status 409 where there is such a run already.
        """
        body = {"logical_date": None, "conf": conf or {}} | ({"dag_run_id": run} if run else {})
        made: str = self.request("POST", f"/dags/{_part(dag)}/dagRuns", body)["dag_run_id"]
        return made

    def clear_failed(self, dag: str, run: str) -> None:
        """Have a run's failed tasks, and those that waited for them, done again; the run goes on."""
        body = {"dag_run_id": run, "only_failed": True, "reset_dag_runs": True, "dry_run": False}
        self.request("POST", f"/dags/{_part(dag)}/clearTaskInstances", body)

    def xcom(self, dag: str, run: str, task: str, key: str, map_index: int = -1) -> Any:
        """What a task has left under a key; None where there is nothing."""
        path = f"/dags/{_part(dag)}/dagRuns/{_part(run)}/taskInstances/{_part(task)}/xcomEntries/{_part(key)}"
        try:
            return self.request("GET", path, map_index=map_index, deserialize="true")["value"]
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def state(self, dag: str, run: str) -> str:
        """A run's state: queued, running, success or failed."""
        state: str = self.request("GET", f"/dags/{_part(dag)}/dagRuns/{_part(run)}")["state"]
        return state

    def task_instances(self, dag: str, run: str) -> list[dict[str, Any]]:
        """A run's tasks, with task_id, map_index, state, try_number and more."""
        path, found = f"/dags/{_part(dag)}/dagRuns/{_part(run)}/taskInstances", list[dict[str, Any]]()
        while True:
            page = self.request("GET", path, limit=100, offset=len(found))
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def log(self, dag: str, run: str, task: str, attempt: int = 1, map_index: int = -1) -> list[dict[str, Any]]:
        """The log of a task's try: what was logged, each with `event` and mostly `timestamp` and `level`."""
        path = f"/dags/{_part(dag)}/dagRuns/{_part(run)}/taskInstances/{_part(task)}/logs/{attempt}"
        content: list[Any] = self.request("GET", path, full_content="true", map_index=map_index)["content"]
        return [line if isinstance(line, dict) else {"event": line} for line in content]

    def wait(
        self,
        dag: str,
        run: str,
        seconds: float = 600,
        tell: Callable[[str, str], object] = lambda task, state: None,
        every: float = 1,
    ) -> str:
        """Wait until a run has ended; its state. `tell` is called with a task and its state whenever that changes.

        Raises
        ------
        TimeoutError
            If the run has not ended after `seconds`.
        """
        until, known = time.monotonic() + seconds, dict[str, str]()
        while True:
            state = self.state(dag, run)
            for task in self.task_instances(dag, run):
                name = task["task_id"] + (f"[{task['map_index']}]" if task["map_index"] >= 0 else "")
                now = task["state"] or "none"
                if known.get(name) != now:
                    known[name] = now
                    tell(name, now)
            if state in FINISHED:
                return state
            if time.monotonic() > until:
                raise TimeoutError(f"{dag} {run} is still {state} after {seconds:.0f} s: {known}")
            time.sleep(every)


def _part(name: str) -> str:
    return urllib.parse.quote(name, safe="")
