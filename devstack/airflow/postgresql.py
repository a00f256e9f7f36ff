"""PostgreSQL for a private Airflow: in a folder of its own, on the loopback address alone, with a password."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devstack.processes import Keeper, write_private
from jobs.scheduler.processes import process_table

NAME = "postgresql"


def programs() -> Path | None:
    """Where PostgreSQL's server programs are: in PATH, or else the newest where packages put them."""
    packaged = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/").glob("usr/pgsql-*/bin")]
    packaged.sort(key=lambda path: [int(digits) for digits in re.findall(r"\d+", str(path))], reverse=True)
    found = shutil.which("initdb")
    for folder in ([Path(found).resolve().parent] if found else []) + packaged:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_isready")):
            return folder
    return None


class Postgresql:
    """A PostgreSQL among a keeper's processes, with its data in `folder`."""

    # SIGTERM would have it wait for its clients, and SIGKILL leaves its shared memory behind.
    polite: list[int] = [signal.SIGINT, signal.SIGQUIT]

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self.keeper, self.folder = keeper, folder

    def owns(self, pid: int) -> bool:
        """Whether a process is of this PostgreSQL. They have sessions of their own, and no environment to be read."""
        try:
            folder, program = (Path(os.readlink(f"/proc/{pid}/{link}")) for link in ("cwd", "exe"))
        except OSError:
            return False
        return self.folder in (folder, folder.parent) and program.name == "postgres"

    def start(self, password: str, port: int, env: Mapping[str, str], seconds: float) -> None:
        """Start it, in a folder that is made when there is none, and wait until it answers."""
        bin_ = programs()
        user = self._make_folder()
        its: dict[str, Any] = {"cwd": self.folder, "umask": 0o077}
        its["env"] = {**env, "LC_ALL": "C", "HOME": str(self.folder)}
        if user:
            its |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            secret = self.folder / "password"
            write_private(secret, password, (user.pw_uid, user.pw_gid) if user else (-1, -1))
            options = ["--username=airflow", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8"]
            options += ["--locale=C", "--no-instructions", f"--pgdata={data}.partial"]
            shutil.rmtree(f"{data}.partial", ignore_errors=True)
            self.keeper.spawn("initdb", [f"{bin_}/initdb", *options], self.keeper.log / "initdb.log", **its)
            self.keeper.finish("initdb", seconds)
            secret.unlink()
            Path(f"{data}.partial").rename(data)
        if not any(map(self.owns, process_table())):
            # What a killed one left, and what would stop this one where its process id is another's by now.
            (data / "postmaster.pid").unlink(missing_ok=True)
        # TCP on the loopback address alone, no Unix socket: any user may reach either, and none without the password.
        values = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
        # A crash of the machine may cost the last moments, never the database.
        values |= {"synchronous_commit": "off", "shared_buffers": "64MB", "timezone": "UTC"}
        options = [word for name, value in values.items() for word in ("-c", f"{name}={value}")]
        argv = [f"{bin_}/postgres", "-D", str(data), *options]
        self.keeper.spawn(NAME, argv, self.keeper.log / f"{NAME}.log", **its)
        ready = [f"{bin_}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        self.keeper.wait(
            NAME, lambda: subprocess.run(ready, env=dict(env), check=False).returncode == 0, seconds, pause=0.2
        )

    def _make_folder(self) -> pwd.struct_passwd | None:
        """Make the database's folder. PostgreSQL refuses root: then the user it runs as, who owns the folder.

        That user must get through to it. Where the base lies in a folder that only root may enter, such as /root, the
        database lies in /var/tmp.
        """
        if os.geteuid() != 0:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            return None
        base = self.keeper.base
        user = pwd.getpwnam("postgres" if "postgres" in [entry.pw_name for entry in pwd.getpwall()] else "nobody")
        os.chown(base, 0, user.pw_gid)
        base.chmod(0o710)  # its group may pass, and see nothing
        its: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        reached = subprocess.run(["test", "-x", str(base)], check=False, cwd="/", **its).returncode == 0
        if not reached:
            base.chmod(0o700)
            if self.folder.parent == base:
                self.folder = Path(tempfile.mkdtemp(prefix="graphufs-postgresql-", dir="/var/tmp"))
                self.keeper.save()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(self.folder, user.pw_uid, user.pw_gid)
        return user
