"""Messages, to a real web server."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.airflow.inside import FAILED, Log


class Posted(list):
    """What was posted; and with which code the server answers."""

    code = 200


@pytest.fixture
def chat(monkeypatch):
    """A web server that keeps what is posted to it: the connection `chat`, whose password is part of its address."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    posted = Posted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, json.loads(body)))
            self.send_response(posted.code)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/hooks"
    connection = {"conn_type": "http", "host": host, "password": "T0/HIDDEN"}
    monkeypatch.setenv("AIRFLOW_CONN_CHAT", json.dumps(connection))
    monkeypatch.setenv("GRAPHUFS_NOTIFY_CONNECTION", "chat")
    yield posted
    server.shutdown()
    server.server_close()


def of_a_failure(error):
    place = SimpleNamespace(dag_id="training", run_id="r1", task_id="train", log_url="http://airflow/log?try_number=1")
    return {"dag_run": SimpleNamespace(dag_id="training", run_id="r1"), "ti": place, "exception": error}


def tell(given, *arguments, **more):
    """Send a message; what went into the log."""
    from jobs.airflow.notifier import Notifier

    log = Log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Notifier, "log", log)
        Notifier(*arguments, **more)(given)
    return "\n".join(log.lines)


def test_a_failure_is_told_with_its_reason_its_log_and_the_command_that_shows_it(chat):
    from jobs.airflow import messages

    failed = {**FAILED, "key": "k", "message": "ValueError: <!channel> & no\nmore"}
    tell(of_a_failure(RuntimeError(messages.failure(failed))))
    ((path, content),) = chat
    assert path == "/hooks/T0/HIDDEN"
    assert {name: content[name] for name in ("dag", "run", "task", "state", "log")} == {
        "dag": "training", "run": "r1", "task": "train", "state": "failed", "log": "http://airflow/log?try_number=1",
    }  # fmt: skip
    assert content["reason"] == "train FAILED, error: ValueError: <!channel> & no"
    assert content["reproduce"] == "graphufs-jobs submit train /r/jobs/k/experiment.yaml --site debug --root /r"
    assert "&lt;!channel&gt; &amp; no" in content["text"] and "<" not in content["text"]
    assert all(content[name] in content["text"] for name in ("dag", "run", "task", "log", "reproduce"))


def test_a_message_that_cannot_be_sent_changes_nothing_and_its_address_stays_hidden(chat, monkeypatch):
    given = of_a_failure(RuntimeError("no"))
    chat.code = 500
    said = tell(given)
    assert len(chat) == 1 and "the address answers 500" in said and "HIDDEN" not in said
    away = {"conn_type": "http", "host": "127.0.0.1:1", "password": "HIDDEN"}
    monkeypatch.setenv("AIRFLOW_CONN_CHAT", json.dumps(away))
    said = tell(given)
    assert len(chat) == 1 and "cannot be reached (ConnectionRefusedError)" in said and "HIDDEN" not in said
    monkeypatch.delenv("AIRFLOW_CONN_CHAT")
    said = tell(given)
    assert len(chat) == 1 and "was not sent" in said


def test_messages_go_out_only_where_an_operator_wants_them(chat, monkeypatch):
    given = of_a_failure(RuntimeError("no"))
    with monkeypatch.context() as patch:
        patch.delenv("GRAPHUFS_NOTIFY_CONNECTION")
        assert "graphufs: training train failed, run r1" in tell(given) and not chat
    succeeded = {name: value for name, value in given.items() if name != "exception"}
    tell(succeeded, "succeeded", only_if="notify_success")
    assert not chat
    monkeypatch.setenv("AIRFLOW_VAR_GRAPHUFS_NOTIFY_SUCCESS", "true")
    tell(succeeded, "succeeded", only_if="notify_success")
    ((_, content),) = chat
    assert content["state"] == "succeeded" and content["task"] is None and content["text"].startswith(
        "graphufs: training succeeded, run r1"
    )  # fmt: skip


def test_an_address_is_read_from_any_usual_spelling_of_a_connection(monkeypatch):
    from jobs.airflow.notifier import address

    for connection, wanted in (
        ("https://chat.example.org/services/T0/B0", "https://chat.example.org/services/T0/B0"),
        ('{"conn_type": "http", "host": "chat.example.org", "schema": "https", "password": "T0/B0"}',
         "https://chat.example.org/T0/B0"),
        ('{"conn_type": "http", "host": "https://chat.example.org/hooks/"}', "https://chat.example.org/hooks"),
        ('{"conn_type": "http", "host": "localhost", "port": 8065, "schema": "http"}', "http://localhost:8065"),
    ):  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", connection)
        assert address("chat") == wanted
    monkeypatch.setenv("AIRFLOW_CONN_CHAT", '{"conn_type": "http", "host": "file:///etc/passwd"}')
    with pytest.raises(ValueError, match="no web address"):
        address("chat")
