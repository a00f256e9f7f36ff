"""A server of objects on this machine that fails as it is told: Google's JSON API, S3's paths, and plain HTTP.

All connections are served in one event loop, so that it takes little of the processor from what it is to measure.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Faults = Callable[[str, int], str]
"""What becomes of a request, by the object's name and how often it was asked for, from 1: `stall`, a status such as
`503`, `reset`, `short` (fewer bytes than announced), `cut` (fewer bytes, none announced), or an empty string."""
PIECE_BYTES = 2**17
"""Sent at once where a rate is set."""
GOOGLE = "/download/storage/v1/b/bucket/o/"
NOT_THERE = b"<Error><Code>NoSuchKey</Code></Error>"


class ObjectServer:
    """The files below a folder, as objects of the bucket `bucket`; counts what is asked for. It knows no gRPC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        """Bytes of answers, by name."""
        self.latency, self.stream_rate, self.rate = 0.0, math.inf, math.inf
        """Seconds before an answer, and bytes a second of one stream and of all together."""
        self.free = 0.0
        """When, by the loop's clock, all that was to be sent will be [s]."""
        self.ranges = True
        """Whether it knows the header `Range`."""
        self.faults: Faults = lambda name, time: ""
        self.admits: Callable[[str, str], bool] = lambda path, authorization: True
        """Whom it lets in, by the request's path with its query and the header `Authorization`; others get a 403."""
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def address(self, protocol: str, name: str) -> tuple[str, dict[str, Any]]:
        """The address of something in the folder for a client, and the storage options it needs."""
        if protocol == "gs":
            return f"gs://bucket/{name}", {"token": "anon", "endpoint_url": self.endpoint}
        if protocol == "s3":
            return f"s3://bucket/{name}", {"anon": True, "endpoint_url": self.endpoint}
        return f"{self.endpoint}/bucket/{name}", {}

    @contextmanager
    def running(self) -> Iterator[ObjectServer]:
        """Serve meanwhile."""
        loop = asyncio.new_event_loop()
        connections: set[_Connection] = set()
        serving = loop.run_until_complete(
            loop.create_server(lambda: _Connection(self, connections), sock=self._listening)
        )
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            serving.close()
            for connection in connections:
                connection.transport.abort()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()


class _Connection(asyncio.Protocol):
    """A connection, with one request after the other."""

    transport: Any

    def __init__(self, server: ObjectServer, connections: set[_Connection]) -> None:
        self._server, self._connections = server, connections
        self._came = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if b"\r\n\r\n" not in self._came:
            return
        (first, *lines), self._came = self._came.decode("latin-1").split("\r\n"), b""
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        method, target, _ = first.split(" ")
        path = unquote(urlsplit(target).path)
        name = path.removeprefix(GOOGLE).removeprefix("/bucket/")
        fault = ""
        if method == "GET":
            self._server.asked[name] += 1
            fault = self._server.faults(name, self._server.asked[name])
        if not self._server.admits(target, headers.get("authorization", "")):
            fault = "403"
        if fault != "stall":
            self._loop.call_later(self._server.latency, self._answer, method, name, headers.get("range", ""), fault)

    def _answer(self, method: str, name: str, given: str, fault: str) -> None:
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
            return
        status, body = int(fault) if fault.isdigit() else 200, b""
        more: list[str] = []
        if status == 200:
            try:
                body, more = self._content(self._server.folder / name, given if self._server.ranges else "")
                status = 206 if more else 200
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                status, body = 404, NOT_THERE
        more += [] if fault == "cut" else [f"Content-Length: {len(body)}"]
        if closes := fault in ("cut", "short"):
            more.append("Connection: close")
            body = body[: len(body) // 2]
        head = "\r\n".join([f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *more, "", ""]).encode()
        if method != "GET":
            body = b""
        self._server.sent[name] += len(body)
        if math.isfinite(self._server.rate):
            self.transport.write(head)
            self._send(memoryview(body), 0, self._loop.time(), closes)
        else:
            self.transport.write(head + body)
            if closes:
                self.transport.close()

    def _content(self, path: Path, given: str) -> tuple[bytes, list[str]]:
        """The bytes of a file, or those of a range, and a header that says which they are."""
        if not given:
            return path.read_bytes(), []
        first, last = given.removeprefix("bytes=").split("-")
        file = os.open(path, os.O_RDONLY)
        try:
            whole = os.fstat(file).st_size
            body = os.pread(file, int(last) + 1 - int(first), int(first))
        finally:
            os.close(file)
        return body, [f"Content-Range: bytes {first}-{int(first) + len(body) - 1}/{whole}"]

    def _send(self, body: memoryview, first: int, begun: float, closes: bool) -> None:
        """Send what is left of a body from `first` on, each piece in its place in the line that all share."""
        server, now = self._server, self._loop.time()
        if first:
            self.transport.write(body[first - PIECE_BYTES : first])
        if first < len(body):
            size = min(PIECE_BYTES, len(body) - first)
            server.free = max(server.free, now) + size / server.rate
            due = max(server.free, begun + (first + size) / server.stream_rate)
            self._loop.call_at(due, self._send, body, first + PIECE_BYTES, begun, closes)
        elif closes:
            self.transport.close()


@contextmanager
def silent() -> Iterator[str]:
    """The endpoint of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
