"""Where the independent pieces of a step are computed: in this process, or on the workers of a dask scheduler.

    with workers.over(client):
        run_step("prepare", experiment, root)

Only `map_unordered` knows the difference. Dask may do a piece twice (when it lost touch with a worker), and a worker
may go on with a piece that is not needed any more. So what a piece leaves on disk counts only once its result was
received: it lies under a name of its own until then, which the receiver replaces by the real one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from graphufs.errors import Stopped, UserError

P = TypeVar("P")
R = TypeVar("R")

POLL = 0.5
"""Seconds between two looks at `should_stop` while pieces are computed."""
AHEAD = 2
"""Pieces in flight per thread of the workers: one is computed, the next is there when it ends."""

TIMEOUT = "30s"
"""How long a scheduler may take to answer."""

PATIENCE = 300.0
"""Seconds without any worker after which a step ends."""

_client: ContextVar[Any] = ContextVar("graphufs.parallel", default=None)


@contextmanager
def over(client: Any) -> Iterator[None]:
    """Let the steps that are run inside, in this thread, use the workers of a `distributed.Client`.

    The workers must have this package and see the same files under the same paths. Each of their threads works on one
    piece at a time. A month to normalize takes little more than 64 MiB of memory, a segment to prepare up to 2 GiB, and
    four threads of its own to read: a worker's process writes one segment at once for four of its cores.
    """
    token = _client.set(client)
    try:
        yield
    finally:
        _client.reset(token)


@contextmanager
def connected(address: str | None, key: str) -> Iterator[None]:
    """Let the steps run inside use the dask scheduler at an address, if one is given and no client was given before.

    `key` is the experiment's that has the address.

    Raises
    ------
    UserError
        If none answers there.
    """
    if address is None or current() is not None:
        yield
        return
    from distributed import Client

    try:
        client = Client(address, timeout=TIMEOUT)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no dask scheduler answers at {address} ({error}); start one, or leave out {key} to use threads"
        ) from error
    with client, over(client):
        yield


def current() -> Any:
    """The client given to `over`, or None."""
    return _client.get()


def map_unordered(
    function: Callable[[P], R],
    pieces: Sequence[P],
    *,
    should_stop: Callable[[], bool],
    stopped: Callable[[], str],
    here: Callable[[P], R] | None = None,
    threads: int | None = None,
) -> Generator[tuple[int, R], None, None]:
    """Apply a function to pieces and yield (number of the piece, result) as the results come.

    Close the iterator (contextlib.closing) where it may be left early: pieces not begun are then given up. What workers
    call is importable, or a functools.partial of such with small arguments; so are the pieces. Where there is no
    client, `here` is called instead, which may hold whatever is open already, in so many `threads`; None: in this one,
    one piece after the other, none begun before the result of the last was taken. `stopped` gives the message of
    `Stopped`.

    Raises
    ------
    UserError
        As the function raised it, here or on a worker; also if workers die again and again with the same piece, or
        the scheduler goes away.
    Stopped
        If `should_stop()` turned true, within about a second where workers compute. They go on for a moment with
        pieces begun: see `abandoned`.
    """

    def check() -> None:
        if should_stop():
            raise Stopped(stopped())

    client = current()
    if client is not None:
        return _on_workers(client, function, pieces, check)
    if threads is not None:
        return _in_threads(threads, here or function, pieces, check)
    return _one_by_one(here or function, pieces, check)


def abandoned() -> bool:
    """Whether the client has cancelled the task that this worker runs."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        worker = get_worker()
        key = worker.get_current_task()
    except (ValueError, KeyError):  # not on a worker
        return False
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled"


def _one_by_one(
    function: Callable[[P], R], pieces: Sequence[P], check: Callable[[], None]
) -> Generator[tuple[int, R], None, None]:
    for number, piece in enumerate(pieces):
        check()
        yield number, function(piece)


def _in_threads(
    threads: int, function: Callable[[P], R], pieces: Sequence[P], check: Callable[[], None]
) -> Generator[tuple[int, R], None, None]:
    pool = ThreadPoolExecutor(threads, "graphufs-pieces")
    try:
        pending: dict[Future[R], int] = {pool.submit(function, piece): number for number, piece in enumerate(pieces)}
        while pending:
            finished, _ = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
            for future in finished:
                yield pending.pop(future), future.result()
            if pending:
                check()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _on_workers(
    client: Any, function: Callable[[P], R], pieces: Sequence[P], check: Callable[[], None]
) -> Generator[tuple[int, R], None, None]:
    todo = deque(range(len(pieces)))
    running: dict[int, Any] = {}
    ended: SimpleQueue[int] = SimpleQueue()
    seen = time.monotonic()
    try:
        while todo or running:
            check()
            # where no worker has come yet, some pieces wait for the first
            room = AHEAD * max(1, _threads(client)) - len(running) if todo else 0
            for _ in range(min(room, len(todo))):
                number = todo.popleft()
                # impure: the same piece asked for again, in a repeated step, is not the one of before
                running[number] = client.submit(function, pieces[number], pure=False)
                running[number].add_done_callback(lambda _, number=number: ended.put(number))
            try:
                number = ended.get(timeout=POLL)
            except Empty:
                if client.status in ("closing", "closed"):
                    raise _lost(f"the client is {client.status}") from None
                seen = time.monotonic() if _threads(client) else seen
                if time.monotonic() - seen > PATIENCE:
                    raise UserError(
                        f"there has been no dask worker for {PATIENCE:.0f} s: they died and no new ones were started. "
                        "What is done is kept: repeat the command to go on"
                    ) from None
                continue
            if running[number].status == "error" and isinstance(running[number].exception(), Stopped):
                del running[number]  # the worker took it for abandoned, which it is not
                todo.append(number)
                continue
            result = _result(running[number], check)
            del running[number]
            yield number, result
    finally:
        if running and client.status == "running":
            client.cancel(list(running.values()))


def _threads(client: Any) -> int:
    """How many threads all workers have together."""
    try:
        return sum(client.nthreads().values())
    # A client whose scheduler is gone raises whatever it stumbles over first.
    except Exception as error:
        raise _lost(repr(error)) from error


def _result(future: Any, check: Callable[[], None]) -> Any:
    """The result of a future that has ended.

    It is still to be fetched from its worker; if that has died since, dask computes it anew.
    """
    from distributed import KilledWorker
    from distributed import TimeoutError as NotYet

    while True:
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                raise UserError(
                    f"workers died one after the other at the same piece of work ({error}); where memory ran out, give "
                    "them more of it or fewer threads. What is done is kept: repeat the command to go on"
                ) from error
            raise error
        try:
            return future.result(timeout=POLL)
        except (CancelledError, asyncio.CancelledError) as error:
            raise _lost(repr(error)) from error
        except NotYet:
            if future.status != "error":
                check()


def _lost(reason: str) -> UserError:
    return UserError(f"the dask scheduler is gone ({reason}). What is done is kept: repeat the command to go on")
