"""Messages, to a real web server."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from types import SimpleNamespace

from inside import FAILED, Log, raises


@contextmanager
def chat(code=200):
    """A web server that keeps what is posted to it: the connection `chat`, whose password is part of its address."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, json.loads(body)))
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/hooks"
    os.environ["AIRFLOW_CONN_CHAT"] = json.dumps({"conn_type": "http", "host": host, "password": "T0/HIDDEN"})
    os.environ["GRAPHUFS_NOTIFY_CONNECTION"] = "chat"
    try:
        yield posted
    finally:
        os.environ.pop("AIRFLOW_CONN_CHAT", None)
        os.environ.pop("GRAPHUFS_NOTIFY_CONNECTION", None)
        server.shutdown()
        server.server_close()


def of_a_failure(error):
    place = SimpleNamespace(dag_id="training", run_id="r1", task_id="train", log_url="http://airflow/log?try_number=1")
    return {"dag_run": SimpleNamespace(dag_id="training", run_id="r1"), "ti": place, "exception": error}


def tell(given, *arguments, **more):
    """Send a message; what went into the log."""
    from jobs.airflow.notifier import Notifier

    log = Log()
    Notifier.log = log
    try:
        Notifier(*arguments, **more)(given)
    finally:
        del Notifier.log
    return "\n".join(log.lines)


def check_a_failure_is_told_with_its_reason_its_log_and_the_command_that_shows_it():
    from jobs.airflow import messages

    failed = {**FAILED, "key": "k", "message": "ValueError: <!channel> & no\nmore"}
    with chat() as posted:
        tell(of_a_failure(RuntimeError(messages.failure(failed))))
    ((path, content),) = posted
    assert path == "/hooks/T0/HIDDEN"
    assert {name: content[name] for name in ("dag", "run", "task", "state", "log")} == {
        "dag": "training", "run": "r1", "task": "train", "state": "failed", "log": "http://airflow/log?try_number=1",
    }  # fmt: skip
    assert content["reason"] == "train FAILED, error: ValueError: <!channel> & no"
    assert content["reproduce"] == "graphufs-jobs submit train /r/jobs/k/experiment.yaml --site debug --root /r"
    assert "&lt;!channel&gt; &amp; no" in content["text"] and "<" not in content["text"]
    assert all(content[name] in content["text"] for name in ("dag", "run", "task", "log", "reproduce"))


def check_a_message_that_cannot_be_sent_changes_nothing_and_its_address_stays_hidden():
    given = of_a_failure(RuntimeError("no"))
    with chat(code=500) as posted:
        said = tell(given)
    assert posted and "the address answers 500" in said and "HIDDEN" not in said
    with chat() as posted:
        os.environ["AIRFLOW_CONN_CHAT"] = json.dumps({"conn_type": "http", "host": "127.0.0.1:1", "password": "HIDDEN"})
        said = tell(given)
    assert not posted and "cannot be reached (ConnectionRefusedError)" in said and "HIDDEN" not in said
    with chat() as posted:
        del os.environ["AIRFLOW_CONN_CHAT"]
        said = tell(given)
    assert not posted and "was not sent" in said


def check_messages_go_out_only_where_an_operator_wants_them():
    given = of_a_failure(RuntimeError("no"))
    with chat() as posted:
        del os.environ["GRAPHUFS_NOTIFY_CONNECTION"]
        assert "graphufs: training train failed, run r1" in tell(given) and not posted
    succeeded = {name: value for name, value in given.items() if name != "exception"}
    with chat() as posted:
        tell(succeeded, "succeeded", only_if="notify_success")
        assert not posted
        os.environ["AIRFLOW_VAR_GRAPHUFS_NOTIFY_SUCCESS"] = "true"
        try:
            tell(succeeded, "succeeded", only_if="notify_success")
        finally:
            del os.environ["AIRFLOW_VAR_GRAPHUFS_NOTIFY_SUCCESS"]
    ((_, content),) = posted
    assert content["state"] == "succeeded" and content["task"] is None and content["text"].startswith(
        "graphufs: training succeeded, run r1"
    )  # fmt: skip


def check_an_address_is_read_from_any_usual_spelling_of_a_connection():
    from jobs.airflow.notifier import address

    for connection, wanted in (
        ("https://chat.example.org/services/T0/B0", "https://chat.example.org/services/T0/B0"),
        ('{"conn_type": "http", "host": "chat.example.org", "schema": "https", "password": "T0/B0"}',
         "https://chat.example.org/T0/B0"),
        ('{"conn_type": "http", "host": "https://chat.example.org/hooks/"}', "https://chat.example.org/hooks"),
        ('{"conn_type": "http", "host": "localhost", "port": 8065, "schema": "http"}', "http://localhost:8065"),
    ):  # fmt: skip
        os.environ["AIRFLOW_CONN_CHAT"] = connection
        try:
            assert address("chat") == wanted
        finally:
            del os.environ["AIRFLOW_CONN_CHAT"]
    os.environ["AIRFLOW_CONN_CHAT"] = '{"conn_type": "http", "host": "file:///etc/passwd"}'
    try:
        with raises(ValueError, "no web address"):
            address("chat")
    finally:
        del os.environ["AIRFLOW_CONN_CHAT"]
