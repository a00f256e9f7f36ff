"""Over SSH, to a server in this process: a real handshake with a real shell behind it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest


@contextmanager
def login_node(folder: Path, **wrong):
    """A site `far` behind a server that runs what it is told in a shell; what it saw."""
    import threading

    import asyncssh

    from jobs.airflow.sites.client import SiteClient
    from jobs.site import Site

    folder = folder.absolute()
    folder.mkdir(exist_ok=True)
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "client", "other")}
    for name, key in keys.items():
        key.write_private_key(folder / name)
    (folder / "known").write_text(keys["client"].export_public_key().decode())
    command = folder / "graphufs-jobs"
    command.write_text(
        f"#!{sys.executable}\nimport json, sys\ntext = sys.stdin.read()\nprint('Welcome')\n"
        "keys = json.loads(text)['jobs'] if 'poll' in sys.argv else []\n"
        "jobs = [{'key': key, 'state': 'RUNNING', 'over': False} for key in keys]\n"
        "said = {'protocol': 1, 'graphufs': " + repr(metadata.version("graphufs")) + ", 'argv': sys.argv[1:]}\n"
        "print(json.dumps({**said, 'stdin': text, 'jobs': jobs}))\n"
    )
    command.chmod(0o755)
    seen = SimpleNamespace(connections=0, commands=[], open=[], port=0)

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn):
            seen.connections += 1
            seen.open.append(conn)

    async def handle(process):
        seen.commands.append(process.command)
        shell = await asyncio.create_subprocess_exec(
            "bash", "-c", process.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=folder
        )
        text = await process.stdin.read()
        out, _ = await shell.communicate(text.encode())
        process.stdout.write(out.decode())
        process.exit(shell.returncode)

    loop = asyncio.new_event_loop()

    async def listen(port=0):
        seen.server = await asyncssh.listen(
            "127.0.0.1", port, server_factory=Server, server_host_keys=[keys["host"]],
            authorized_client_keys=str(folder / "known"), process_factory=handle,
        )  # fmt: skip
        seen.port = seen.server.get_port()

    async def stop():
        seen.server.close()
        for connection in seen.open:
            connection.abort()
        seen.open.clear()

    seen.start = lambda: asyncio.run_coroutine_threadsafe(listen(seen.port), loop).result(10)
    seen.stop = lambda: asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    seen.start()
    host_key = keys[wrong.get("host", "host")].export_public_key().decode().strip()
    extra = {"key_file": str(folder / wrong.get("key", "client")), "host_key": host_key, "look_for_keys": False}
    content = {"conn_type": "ssh", "host": "127.0.0.1", "port": seen.port, "login": "someone", "extra": extra}
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_CONN_FAR_LOGIN", json.dumps(content))
    control = {"connection": "far_login", "command": str(command), "poll_interval": 1}
    seen.client = lambda: SiteClient("far", Site(executor="slurm", control=control))
    try:
        yield seen
    finally:
        patch.undo()
        loop.call_soon_threadsafe(loop.stop)


def test_both_halves_speak_over_ssh_and_hostile_words_start_nothing():
    with login_node(Path("login")) as seen:
        value = "--resource=$(touch PWNED); `touch PWNED` '\"\n&& touch PWNED"
        asked = ["submit", value]

        async def main():
            client = seen.client()
            try:
                return [await client.arun(*asked, stdin="given ü") for _ in range(3)]
            finally:
                await client.close()

        answers = [seen.client().run(*asked, stdin="given ü"), *asyncio.run(main())]
    assert all(one["argv"] == [*asked, "--site=far", "--json"] and one["stdin"] == "given ü" for one in answers), (
        answers
    )
    assert seen.connections == 2, "one for the blocking call, one for all the others"
    assert not Path("login/PWNED").exists()


def test_twenty_wait_over_one_connection_and_survive_its_end():
    from jobs.airflow.sites.poller import Poller, Trouble

    async def main(seen):
        poller = Poller(seen.client(), 0.5)

        async def wait(number):
            with poller.subscribe(f"k{number}") as one:
                heard = [await one.inbox.get() for _ in range(2)]
                while not isinstance(heard[-1], Trouble):
                    heard.append(await one.inbox.get())
                while not isinstance(heard[-1], dict):
                    heard.append(await one.inbox.get())
                return heard

        async def disturb():
            while poller.looks < 3:
                await asyncio.sleep(0.1)
            before = (seen.connections, len(seen.commands), poller.looks)
            await asyncio.to_thread(seen.stop)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(seen.start)
            return before

        *heard, before = await asyncio.wait_for(asyncio.gather(*(wait(number) for number in range(20)), disturb()), 60)
        await poller.client.close()
        return heard, before

    with login_node(Path("login")) as seen:
        heard, (connections, commands, looks) = asyncio.run(main(seen))
    assert connections == 1 and 2 <= commands <= looks <= commands + 1, (connections, commands, looks)
    assert all(words[0]["state"] == words[-1]["state"] == "RUNNING" for words in heard)


def test_another_host_key_a_refused_login_and_a_missing_connection_are_told_apart(monkeypatch):
    from jobs.airflow.sites.client import SiteError, Unreachable

    def both(client, error, words):
        with pytest.raises(error, match=words or None) as caught:
            client.run("list", timeout=20)
        assert type(caught.value) is error
        with pytest.raises(error, match=words or None) as caught:
            asyncio.run(client.arun("list", timeout=20))
        assert type(caught.value) is error

    with login_node(Path("login"), host="other") as seen:
        both(seen.client(), SiteError, "another key")
        assert not seen.commands
    with login_node(Path("login"), key="other") as seen:
        both(seen.client(), Unreachable, "")
        client = seen.client()
        monkeypatch.delenv("AIRFLOW_CONN_FAR_LOGIN")
        both(client, SiteError, "connection of site far cannot be used")
