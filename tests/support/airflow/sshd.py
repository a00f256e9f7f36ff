"""A real sshd for one user on a port of the loopback address: keys only, and a log that can be counted."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from devstack.processes import free_port, send, with_descendants
from jobs.scheduler.processes import process_table

PROGRAM = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def missing() -> list[str]:
    """What a server needs and this machine lacks."""
    return [name for name in ("sshd", "ssh-keygen") if not (PROGRAM if name == "sshd" else shutil.which(name))]


class Sshd:
    """A server in a folder, which is to be private: the keys of both ends lie there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder, self.log, self.port = folder, folder / "log", free_port()
        for name in ("host", "client"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(command, check=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it gives its privileges up
        lines = [f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host", "PidFile none"]
        lines += [f"AuthorizedKeysFile {folder}/authorized", "StrictModes no", "UsePAM no", "LogLevel VERBOSE"]
        lines += ["PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password"]
        lines += ["Subsystem sftp internal-sftp"]
        (folder / "config").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.options = ""
        self.allow(True)

    def connection(self) -> str:
        """Airflow's connection to it."""
        extra = {
            "key_file": str(self.folder / "client"),
            "host_key": " ".join((self.folder / "host.pub").read_text().split()[:2]),
            "no_host_key_check": False,
            "look_for_keys": False,
        }
        content = {"conn_type": "ssh", "host": "127.0.0.1", "port": self.port, "login": getpass.getuser()}
        return json.dumps({**content, "extra": extra})

    def start(self) -> None:
        """Take connections."""
        assert PROGRAM is not None and self._process is None
        command = [PROGRAM, "-D", "-f", str(self.folder / "config"), "-E", str(self.log)]
        before = self._listening()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + 20
        while self._listening() == before:
            assert self._process.poll() is None and time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it and everyone's connection; what was begun over one is left to itself."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that nobody is let in meanwhile
        for pid in self.sessions():
            send(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None

    def allow(self, who: bool, options: str | None = None) -> None:
        """Let the client's key in, with options as before, or, as a site does whose tokens have run out, refuse it."""
        self.options = self.options if options is None else options
        key = f"{self.options} {(self.folder / 'client.pub').read_text()}".lstrip()
        (self.folder / "authorized").write_text(key if who else "")

    def disconnect(self) -> None:
        """End everyone's connection, and go on listening."""
        for pid in self.sessions():
            send(pid, signal.SIGKILL)

    def sessions(self) -> set[int]:
        """The processes that serve connections now."""
        if self._process is None:
            return set()
        found = with_descendants({self._process.pid}, process_table())
        return {pid for pid in found - {self._process.pid} if _is_sshd(pid)}

    def accepted(self) -> int:
        """How often it has ever let somebody in."""
        return self.log.read_text().count("Accepted publickey") if self.log.exists() else 0

    def connections(self) -> int:
        """How many connections to it there are now."""
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return len([row for row in rows if row[1].endswith(f":{self.port:04X}") and row[3] == "01"])

    def _listening(self) -> int:
        return self.log.read_text().count("Server listening") if self.log.exists() else 0


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().startswith("sshd")
    except OSError:
        return False
