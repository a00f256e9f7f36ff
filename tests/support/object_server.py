"""A server of objects on this machine that fails as it is told: Google's JSON API, S3's paths, and plain HTTP."""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Faults = Callable[[str, int], str]
"""What becomes of a request, by the object's name and how often it was asked for, from 1: `stall`, a status such as
`503`, `reset`, `short` (fewer bytes than announced), `cut` (fewer bytes, none announced), or an empty string."""
PIECE_BYTES = 2**17
"""Sent at once where a rate is set."""
GOOGLE = "/download/storage/v1/b/bucket/o/"


class ObjectServer:
    """The files below a folder, as objects of the bucket `bucket`; counts what is asked for. It knows no gRPC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        """Bytes of answers, by name."""
        self.latency, self.stream_rate, self.rate = 0.0, math.inf, math.inf
        """Seconds before an answer, and bytes a second of one stream and of all together."""
        self._free = 0.0
        self.ranges = True
        """Whether it knows the header `Range`."""
        self.faults: Faults = lambda name, time: ""
        self.admits: Callable[[str, str], bool] = lambda path, authorization: True
        """Whom it lets in, by the request's path with its query and the header `Authorization`; others get a 403."""
        self.released = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._answer(self)

            def do_HEAD(self) -> None:
                outer._answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def address(self, protocol: str, name: str) -> tuple[str, dict[str, Any]]:
        """The address of something in the folder for a client, and the storage options it needs."""
        if protocol == "gs":
            return f"gs://bucket/{name}", {"token": "anon", "endpoint_url": self.endpoint}
        if protocol == "s3":
            return f"s3://bucket/{name}", {"anon": True, "endpoint_url": self.endpoint}
        return f"{self.endpoint}/bucket/{name}", {}

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        name = path.removeprefix(GOOGLE).removeprefix("/bucket/")
        fault = ""
        if request.command == "GET":
            with self._lock:
                self.asked[name] += 1
                fault = self.faults(name, self.asked[name])
        time.sleep(self.latency)
        if fault == "stall":
            self.released.wait(60)
            return
        if fault == "reset":
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()
            request.close_connection = True
            return
        file = self.folder / name
        if not self.admits(request.path, request.headers.get("Authorization", "")):
            fault = "403"
        status = int(fault) if fault.isdigit() else 200 if file.is_file() else 404
        bodies = {404: b"<Error><Code>NoSuchKey</Code></Error>"}
        given = request.headers.get("Range", "") if status == 200 and self.ranges else ""
        if given:
            first, last = given.removeprefix("bytes=").split("-")
            start, whole, status = int(first), file.stat().st_size, 206
            with file.open("rb") as content:
                content.seek(start)
                body = content.read(int(last) + 1 - start)
        else:
            body = file.read_bytes() if status == 200 else bodies.get(status, b"")
        request.send_response(status)
        if given:
            request.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{whole}")
        if fault != "cut":
            request.send_header("Content-Length", str(len(body)))
        if fault in ("cut", "short"):
            request.close_connection = True
            request.send_header("Connection", "close")
            body = body[: len(body) // 2]
        request.end_headers()
        if request.command == "GET":
            with self._lock:
                self.sent[name] += len(body)
            self._send(request, body)

    def _send(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        begun = time.monotonic()
        for first in range(0, len(body), PIECE_BYTES) if math.isfinite(self.rate) else ():
            piece = body[first : first + PIECE_BYTES]
            with self._lock:  # each piece has its place in the line that all share
                self._free = max(self._free, time.monotonic()) + len(piece) / self.rate
                due = max(self._free, begun + (first + len(piece)) / self.stream_rate)
            time.sleep(max(0.0, due - time.monotonic()))
            request.wfile.write(piece)
        if not math.isfinite(self.rate):
            request.wfile.write(body)

    @contextmanager
    def running(self) -> Iterator[ObjectServer]:
        """Serve meanwhile."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()


@contextmanager
def silent() -> Iterator[str]:
    """The endpoint of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
