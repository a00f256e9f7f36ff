#!/usr/bin/env python3
"""A real Slurm on one machine, with accounting, as root or as an ordinary user.

munged, mariadbd, slurmdbd, slurmctld and one slurmd for each node run in the foreground, out of one folder, on free
ports of the loopback address only. Their process ids are recorded there together with their start times, and only
processes that match both are signalled, besides those of the cluster's own jobs. `scripts/packages.sh slurm` installs
the programs.

From the checkout, where cluster is short for python -m devstack.slurm.cluster:

    cluster up --base DIR [--nodes 2] [--slurmd-timeout 30] ...
    eval "$(cluster env --base DIR)"
    cluster stop|start|kill --base DIR NAME   NAME: slurmctld, slurmd-n1, ...; for kill a node too: n1
    cluster pids --base DIR
    cluster down --base DIR [--purge]

The partitions: main (the default), short (one minute at most), low (its jobs give way and are requeued) and high (takes
low's place).
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from devstack.processes import Keeper, environment, free_port, with_descendants, write_private
from devstack.slurm.files import CGROUP_FILE, DEVICES, Places, Settings, accounting_file, cluster_file, gpu_file
from jobs.scheduler.processes import process_table

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd", "mariadb-install-db")
# Variables that steer Slurm's commands; what a surrounding job or a shell has set must not reach this cluster.
FOREIGN = ("SLURM", "SBATCH", "SALLOC", "SRUN", "SQUEUE", "SINFO", "SACCT", "SCANCEL", "SCONTROL", "MUNGE")


class ClusterError(RuntimeError):
    """The cluster could not do what was asked; says which log to read."""


def find_program(name: str) -> str | None:
    """Where a program is; daemons often lie outside an ordinary user's PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin"]))


def missing_programs() -> list[str]:
    """The programs a cluster needs that are missing on this machine."""
    return [name for name in PROGRAMS if find_program(name) is None]


def listening(at: int | str) -> bool:
    """Whether something takes connections at a port or a socket's path."""
    with socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(at if isinstance(at, str) else ("127.0.0.1", at)) == 0


class Cluster(Keeper):
    """A cluster in the folder `base`; one that was started there before is found again.

    As a context manager it is up inside the `with` and down after it.
    """

    error = ClusterError

    def __init__(self, base: str | Path, settings: Settings | None = None) -> None:
        super().__init__(base, "cluster.json")
        self.settings = settings or Settings()
        self.etc, self.run, self.state = (self.base / name for name in ("etc", "run", "state"))
        self.conf = self.etc / "slurm.conf"
        self.nodes: list[str] = self.known.get("nodes", [])
        # How each daemon is started: its command line, the port or socket where it takes connections, its node.
        self.daemons: dict[str, list[Any]] = self.known.get("daemons", {})

    def record(self) -> dict[str, Any]:
        """What else is to be found again."""
        return {"nodes": self.nodes, "daemons": self.daemons}

    def logs(self, name: str) -> str:
        """Where to read what became of a daemon."""
        return f"{self.log / name}.log and {name}.out beside it"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands, and what submits jobs, talk to this cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return kept | {"SLURM_CONF": str(self.conf)}

    def command(self, *argv: str, check: bool = True) -> str:
        """Run a command on this cluster; what it wrote to standard output.

        Raises
        ------
        ClusterError
            If there is no cluster, or, with `check`, the command fails.
        """
        if not self.conf.exists():  # Slurm's commands would look for it for a minute
            raise ClusterError(f"there is no cluster in {self.base}: no {self.conf}")
        done = subprocess.run(argv, env=self.env, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        if check and done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise ClusterError(f"{' '.join(argv)} ended with {done.returncode}: {said} (logs: {self.log})")
        return done.stdout

    # Processes

    def start(self, name: str) -> None:
        """Start a stopped daemon again as it was, and wait until it takes connections.

        Raises
        ------
        ClusterError
            If the daemon is running already or does not start.
        """
        if self.alive(self.named(name)):
            raise ClusterError(f"{name} runs already, as process {self.processes[name].pid}")
        self._start(name, *self.daemons[name])

    def kill_node(self, node: str) -> None:
        """Take a node away as a loss of power does: slurmd, its slurmstepds and the jobs' processes there at once."""
        self.kill_all(partial(self._marked, self.named(f"slurmd-{node}").removeprefix("slurmd-")))

    def _start(self, name: str, argv: list[str], at: int | str | None, node: str | None = None) -> None:
        """Start a daemon, and wait until it takes connections."""
        # slurmd hands its environment on to slurmstepd, and by this `_marked` finds both.
        env = self.env | ({"SLURMD_NODENAME": node} if node else {})
        self.daemons[name] = [argv, at, node]
        self.spawn(name, argv, self.log / f"{name}.out", env=env, cwd=self.run)
        if at is not None:
            self.wait(name, lambda: listening(at))

    def _marked(self, node: str | None) -> set[int]:
        """Processes of slurmd, slurmstepd and jobs on one node of this cluster, or on all of them.

        All carry SLURM_CONF and SLURMD_NODENAME in their environment; one that has dropped it is found as a descendant.
        """
        found, table = set(), process_table()
        for pid in table:
            env = environment(pid)
            name = env.get(b"SLURMD_NODENAME", b"").decode(errors="replace")
            if env.get(b"SLURM_CONF") == os.fsencode(self.conf) and (name == node if node else name in self.nodes):
                found.add(pid)
        return with_descendants(found, table)

    # Up and down

    def up(self) -> None:
        """Start everything and wait until all nodes are idle and the accounting knows the cluster.

        Where that fails, what was started is stopped again, and the logs stay.

        Raises
        ------
        ClusterError
            If a program is missing, the folder or the settings do not suit, or a daemon does not start.
        """
        if missing := missing_programs():
            raise ClusterError(f"not found: {', '.join(missing)}; scripts/packages.sh slurm installs them")
        if any(map(self.alive, self.processes)):
            raise ClusterError(f"a cluster is up already in {self.base}")
        if len(str(self.run / "munge.socket")) > 100 or len(str(self.base).split()) > 1:
            raise ClusterError(f"take a base with a shorter path and without spaces, for its sockets: {self.base}")
        if not 0 < self.settings.gpus <= len(DEVICES):
            raise ClusterError(f"a node has 1 to {len(DEVICES)} GPUs, not {self.settings.gpus}")
        self.down()  # what an earlier one may have left
        shutil.rmtree(self.run, ignore_errors=True)
        for folder in (self.etc, self.log, self.run, self.state / "ctld"):
            folder.mkdir(parents=True, exist_ok=True)
        self.nodes = [self.settings.node_name.format(number) for number in range(1, self.settings.nodes + 1)]
        self.processes, self.daemons = {}, {}
        try:
            self._up()
        except BaseException:
            self.down()
            raise

    def _up(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name
        program = {name: find_program(name) or name for name in PROGRAMS}
        ports: list[int] = []
        for _ in range(3 + len(self.nodes)):
            ports.append(free_port(taken=tuple(ports)))
        database, accounting, controller, *slurmds = ports
        password = secrets.token_hex(16)
        write_private(self.etc / "munge.key", secrets.token_bytes(1024))
        nodes = dict(zip(self.nodes, slurmds, strict=True))
        places = Places(self.base, user, controller, accounting, database, nodes)
        write_private(self.etc / "slurmdbd.conf", accounting_file(places, password))
        self.conf.write_text(cluster_file(places, self.settings))
        (self.etc / "gres.conf").write_text(gpu_file(self.settings.gpus))
        (self.etc / "cgroup.conf").write_text(CGROUP_FILE)

        munge = ["--foreground", "--force", f"--key-file={self.etc}/munge.key", f"--socket={self.run}/munge.socket"]
        munge += [f"--pid-file={self.run}/munged.pid", f"--log-file={self.log}/munged.log", "--num-threads=2"]
        munge += [f"--seed-file={self.state}/munged.seed"]
        self._start("munged", [program["munged"], *munge], f"{self.run}/munge.socket")

        # The database is thrown away with the cluster: small, and without the care that makes it survive a crash.
        common = ["--no-defaults", f"--datadir={self.state / 'mysql'}", f"--user={user}", "--skip-name-resolve"]
        common += ["--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--innodb-flush-method=nosync"]
        install = [program["mariadb-install-db"], *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._start("mariadb-install-db", install, at=None)
        self.finish("mariadb-install-db", 120)
        # Read at every start of mariadbd.
        who = "'slurm'@'127.0.0.1'"
        begin = ["CREATE DATABASE IF NOT EXISTS slurm;", f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY '{password}';"]
        write_private(self.etc / "begin.sql", "\n".join([*begin, f"GRANT ALL ON slurm.* TO {who};\n"]))
        mariadb = ["--bind-address=127.0.0.1", f"--port={database}", f"--socket={self.run}/mariadb.sock"]
        mariadb += [f"--pid-file={self.run}/mariadb.pid", f"--log-error={self.log}/mariadbd.log"]
        mariadb += [f"--init-file={self.etc}/begin.sql", f"--tmpdir={self.run}", "--performance-schema=off"]
        mariadb += ["--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"]
        self._start("mariadbd", [program["mariadbd"], *common, *mariadb], database)
        self._start("slurmdbd", [program["slurmdbd"], "-D"], accounting)
        self._start("slurmctld", [program["slurmctld"], "-D"], controller)
        for node, port in nodes.items():
            self._start(f"slurmd-{node}", [program["slurmd"], "-D", "-N", node], port, node)
        self.wait("slurmctld", lambda: self._states() == ["idle"] * len(self.nodes))
        # Until then a job's records wait in slurmctld, and sacct finds no such cluster.
        clusters = ("sacctmgr", "-nP", "show", "cluster", "format=ControlPort")
        self.wait("slurmdbd", lambda: self.command(*clusters, check=False).split() == [str(controller)])

    def _states(self) -> list[str]:
        return self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%t", check=False).split()

    def down(self, purge: bool = False) -> None:
        """Kill everything that belongs to the cluster. The logs stay, or with `purge` nothing does."""
        # No farewell is needed: all that the daemons would save is removed here.
        for name in reversed(self.processes):
            self.stop(name, signal.SIGKILL)
        self.kill_all(partial(self._marked, None))
        shutil.rmtree(self.base if purge else self.state, ignore_errors=True)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down", "env", "stop", "start", "kill", "pids"])
    parser.add_argument("name", nargs="?", help="a daemon; for kill, a node too")
    parser.add_argument("--base", required=True, help="the cluster's folder")
    parser.add_argument("--purge", action="store_true", help="down: remove the folder too")
    for field in fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    given = parser.parse_args(argv)
    if given.action in ("stop", "start", "kill") and given.name is None:
        parser.error(f"{given.action} needs a name")
    cluster = Cluster(given.base, Settings(**{field.name: getattr(given, field.name) for field in fields(Settings)}))
    # So that an `up` which is told to end takes down what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if given.action == "up":
            cluster.up()
        elif given.action == "down":
            cluster.down(given.purge)
        elif given.action == "env":
            print(f"export SLURM_CONF={cluster.conf}")
        elif given.action == "start":
            cluster.start(given.name)
        elif given.name in cluster.nodes and given.action == "kill":
            cluster.kill_node(given.name)
        elif given.name:
            cluster.stop(given.name, 0 if given.action == "stop" else signal.SIGKILL)
        else:
            for name, process in cluster.processes.items():
                print(name, process.pid, "alive" if cluster.alive(name) else "gone")
    except ClusterError as error:
        sys.exit(f"slurm_cluster: {error}")


if __name__ == "__main__":
    main()
