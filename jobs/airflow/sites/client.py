"""The job command of a site, as a process of this machine or over SSH, blocking for workers, async for the triggerer.

Every call ends in one of four ways: an answer (a dictionary), `Unreachable` (the site does not answer now; nothing is
known and nothing is to be concluded), `Refused` (the command says that what was asked is wrong) or `SiteError` (the
command is not there, broken, or speaks another protocol).

Arguments reach the site's shell quoted, what a person typed never becomes an option, and an experiment travels on
standard input. Connections and their secrets stay in Airflow's hooks; nothing of them is logged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from jobs.site import Site, load

log = logging.getLogger(__name__)
PROTOCOL = 1
"""The protocol that this module reads; `jobs.cli.app.PROTOCOL` is what the site's side writes. A test compares them."""
CONNECT = 30.0
"""Seconds for a connection to come about."""
COMMAND = 300.0
"""Seconds for a command: sbatch may take minutes on a busy machine."""
AT_ONCE = 5
"""Commands that run at a time over the one connection: SSH servers refuse more than ten."""
UNREACHABLE = 69
SECRET = ("AIRFLOW", "_AIRFLOW", "__AIRFLOW")
"""Beginnings of the names of Airflow's own variables, some of which hold secrets: a site's command gets none."""

for _name in ("asyncssh", "paramiko"):  # they log every channel into the task's log
    logging.getLogger(_name).setLevel(logging.WARNING)


class Unreachable(Exception):
    """The site does not answer now. That says nothing about its jobs."""


class SiteError(Exception):
    """The site's job command is missing, broken or of another protocol."""


class Refused(SiteError):
    """The site's job command says that what was asked is wrong."""


class SiteClient:
    """The job command of one site.

    Its async half holds one SSH connection for all calls; `close` gives it back. The blocking half opens one a call.
    """

    def __init__(self, name: str, site: Site) -> None:
        self.name, self.site = name, site
        self._compared = False
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)

    @classmethod
    def load(cls, name: str) -> SiteClient:
        """The client of a site by name.

        Raises
        ------
        graphufs.errors.UserError
            If there is no such site, or its file is wrong.
        """
        return cls(name, load(name))

    def run(self, *arguments: str, stdin: str = "", timeout: float = COMMAND) -> dict[str, Any]:
        """Run a command and return its answer.

        Raises
        ------
        Unreachable
            If the site does not answer, or not in time; whether the command was done is not known then.
        SiteError
            If its answer cannot be read; `Refused` if it calls the arguments wrong.
        """
        if self.site.control.connection is None:
            return self._read(*self._run_here(arguments, stdin, timeout))
        return self._read(*self._run_there(arguments, stdin, timeout))

    async def arun(self, *arguments: str, stdin: str = "", timeout: float = COMMAND) -> dict[str, Any]:
        """Like `run`, without blocking. Of very many calls at once, some wait for their turn."""
        async with self._turns:
            if self.site.control.connection is None:
                return self._read(*await self._arun_here(arguments, stdin, timeout))
            return self._read(*await self._arun_there(arguments, stdin, timeout))

    async def close(self) -> None:
        """Give the async half's connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.wait_closed(), 5)

    def words(self, arguments: Sequence[str]) -> list[str]:
        """The words after the job command.

        Raises
        ------
        Refused
            If an argument contains a zero byte.
        """
        words = [*arguments, f"--site={self.name}", "--json"]
        if broken := [word for word in words if "\0" in word]:
            raise Refused(f"{broken[0]!r} contains a zero byte")
        return words

    def line(self, arguments: Sequence[str]) -> str:
        """The command line for the site's shell: only the command itself, from the site file, is not quoted."""
        return f"{self.site.control.command} {shlex.join(self.words(arguments))}"

    # as a process of this machine

    def _command(self, arguments: Sequence[str]) -> list[str]:
        first, *rest = shlex.split(os.path.expandvars(self.site.control.command))
        return [os.path.expanduser(first), *rest, *self.words(arguments)]

    @staticmethod
    def _environment() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}

    def _run_here(self, arguments: Sequence[str], stdin: str, timeout: float) -> tuple[int | None, str, str]:
        try:
            done = subprocess.run(
                self._command(arguments),
                input=stdin.encode(),
                capture_output=True,
                timeout=timeout,
                env=self._environment(),
                start_new_session=True,  # killing the worker's group must not tear a submission in two
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(f"no answer within {timeout:.0f} s") from None
        except OSError as error:
            raise SiteError(f"{self.site.control.command} cannot be started: {error.strerror}") from None
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    async def _arun_here(self, arguments: Sequence[str], stdin: str, timeout: float) -> tuple[int | None, str, str]:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(arguments),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise SiteError(f"{self.site.control.command} cannot be started: {error.strerror}") from None
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), timeout)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.communicate(), 5)
            raise Unreachable(f"no answer within {timeout:.0f} s") from None
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    # over SSH

    def _run_there(self, arguments: Sequence[str], stdin: str, timeout: float) -> tuple[int | None, str, str]:
        import paramiko
        from airflow.providers.ssh.hooks.ssh import SSHHook

        line = self.line(arguments)
        hook = _connection_of(
            self.name, lambda: SSHHook(ssh_conn_id=self.site.control.connection, conn_timeout=int(CONNECT))
        )
        try:
            with hook.get_conn() as client:
                return _execute(client, line, stdin, timeout)
        except paramiko.BadHostKeyException as error:
            raise SiteError(f"the host {error.hostname} shows another key than the connection names") from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Unreachable(_say(error)) from None

    async def _arun_there(self, arguments: Sequence[str], stdin: str, timeout: float) -> tuple[int | None, str, str]:
        # imported beside: it takes a second, in which the triggerer's loop must not stand still
        asyncssh = await asyncio.to_thread(importlib.import_module, "asyncssh")
        await asyncio.to_thread(importlib.import_module, "airflow.providers.ssh.hooks.ssh")
        line = self.line(arguments)
        connection = None
        try:
            connection = await self._connected()
            done = await asyncio.wait_for(
                connection.run(line, input=stdin, encoding="utf-8", errors="replace", check=False), timeout
            )
        except asyncssh.HostKeyNotVerifiable:
            raise SiteError("the host shows another key than the connection names") from None
        except TimeoutError:
            await self._drop(connection)
            raise Unreachable(f"no answer within {CONNECT if connection is None else timeout:.0f} s") from None
        except (asyncssh.Error, OSError) as error:
            await self._drop(connection)
            raise Unreachable(_say(error)) from None
        if done.exit_status is None:  # the connection broke, or the command was killed
            await self._drop(connection)
        return done.exit_status, str(done.stdout or ""), str(done.stderr or "")

    async def _connected(self) -> Any:
        from airflow.providers.ssh.hooks.ssh import SSHHookAsync

        async with self._connecting:
            if self._connection is None or self._connection.is_closed():
                hook = _connection_of(self.name, lambda: SSHHookAsync(ssh_conn_id=self.site.control.connection or ""))
                self._connection = await asyncio.wait_for(_opened(self.name, hook), CONNECT)
            return self._connection

    async def _drop(self, connection: Any) -> None:
        """Close a connection that failed, unless another one has been opened since."""
        if connection is not None and self._connection is connection:
            await self.close()

    # what came back

    def _read(self, code: int | None, out: str, err: str) -> dict[str, Any]:
        last = " ".join(err.split())[-2000:]
        if code == UNREACHABLE:
            raise Unreachable(last or "its scheduler does not answer")
        if code is None or code < 0 or code in (129, 130, 137, 143):
            raise Unreachable(f"the command was killed or its connection broke ({code}): {last}")
        content = _json(out)
        if content is not None:
            self._compare(content)
            if code in (0, 1):
                return content
        if code == 2:
            raise Refused(err.strip().removeprefix("error").strip()[-4000:] or "bad input")
        if code in (126, 127):
            raise SiteError(f"{self.site.control.command} cannot be started there: {last}")
        raise SiteError(f"{self.site.control.command} ended with {code} and no answer: {last or out[-500:].strip()}")

    def _compare(self, content: dict[str, Any]) -> None:
        if content["protocol"] != PROTOCOL:
            raise SiteError(
                f"the site's graphufs {content.get('graphufs')} speaks protocol {content['protocol']}, this side "
                f"{PROTOCOL}: install the same version of graphufs on both"
            )
        if not self._compared:
            self._compared = True
            here, there = metadata.version("graphufs"), content.get("graphufs")
            if here != there:
                log.warning(
                    "the site %s has graphufs %s, Airflow's side %s; they should be equal", self.name, there, here
                )


def _execute(client: Any, line: str, stdin: str, timeout: float) -> tuple[int | None, str, str]:
    """Run a line with paramiko. Errors are read beside, so that neither stream can fill up and block the other."""
    entry, out, err = client.exec_command(line, timeout=timeout)
    parts: list[bytes] = []

    def read_errors() -> None:
        with contextlib.suppress(OSError):
            parts.append(err.read())

    beside = threading.Thread(target=read_errors, daemon=True)
    beside.start()
    entry.write(stdin.encode())
    entry.channel.shutdown_write()
    answer = out.read()
    beside.join(10)
    if not out.channel.status_event.wait(10):
        return None, "", "the connection ended before the command"
    code = out.channel.recv_exit_status()
    return None if code < 0 else code, answer.decode(errors="replace"), b"".join(parts).decode(errors="replace")


def _connection_of(name: str, make: Any) -> Any:
    """A hook; a connection that Airflow does not have is reported in words of ours."""
    try:
        return make()
    except Exception as error:
        raise SiteError(f"the SSH connection of site {name} cannot be used: {_say(error)}") from None


async def _opened(name: str, hook: Any) -> Any:
    import asyncssh
    import greenback

    if os.environ.get("AIRFLOW_DISABLE_GREENBACK_PORTAL", "").lower() != "true":
        # the hook reads the connection's extras by a blocking call, which Airflow allows its triggers' own tasks only
        await greenback.ensure_portal()
    try:
        return await hook.get_conn()
    except (asyncssh.Error, OSError, TimeoutError, asyncio.CancelledError):
        raise
    except Exception as error:  # no such connection, a key that cannot be read
        raise SiteError(f"the SSH connection of site {name} cannot be used: {_say(error)}") from None


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _json(text: str) -> dict[str, Any] | None:
    """The answer in what was printed: a shell's greeting may stand before it."""
    for begin in re.finditer(r"^\{", text, re.MULTILINE):
        with contextlib.suppress(ValueError):
            content, _ = json.JSONDecoder().raw_decode(text, begin.start())
            if "protocol" in content:
                return dict(content)
    return None
