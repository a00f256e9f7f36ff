"""Functions that run in processes of their own, which may be killed, without each importing everything anew.

Python's forkserver starts one process that has imported what steps need and computed nothing; each child is a fork of
it, a process like any other that is there within milliseconds instead of seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from typing import Any

# Nothing that computes while it is imported: a backend of JAX's does not survive a fork.
PRELOADED = (
    "graphufs.config.loading",
    "graphufs.forecast.step",
    "graphufs.normalization.step",
    "graphufs.data.prepare",
    "graphufs.train.trainer",
    "graphufs.weatherbench.evaluate",
)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    return context


def _run(connection: Any, environment: dict[str, str], function: Callable[..., object], arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    try:
        connection.send(("ended", function(connection, *arguments)))
    except BaseException:
        connection.send(("failed", traceback.format_exc()))
        raise


class Child:
    """A process that runs function(connection, *arguments), a function of a module, with an environment.

    By the connection it may send what the test waits for, `connection.send(("said", ...))`, and receive answers.
    """

    def __init__(
        self, function: Callable[..., object], *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        self.connection, there = _context().Pipe()
        given = dict(os.environ if environment is None else environment)
        self.process = _context().Process(target=_run, args=(there, given, function, arguments), daemon=True)
        self.process.start()
        there.close()

    def hear(self, seconds: float = 300) -> Any:
        """What the function says next, or returns.

        Raises
        ------
        AssertionError
            If it has failed, has died, or says nothing for so long.
        """
        assert self.connection.poll(seconds), f"the child has said nothing for {seconds} s"
        try:
            kind, content = self.connection.recv()
        except EOFError:
            self.process.join(10)
            raise AssertionError(f"the child ended with {self.process.exitcode}") from None
        assert kind != "failed", content
        return content

    def answer(self, content: object = None) -> None:
        """Let a function go on that waits for an answer."""
        self.connection.send(content)

    def end(self, seconds: float = 60) -> int | None:
        """Wait until it has ended; its exit code, negative for a signal's number."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> int | None:
        """End it as the kernel or a job system would: no chance to clean up. Its exit code."""
        self.process.kill()
        return self.end()
