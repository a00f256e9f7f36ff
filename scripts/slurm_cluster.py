#!/usr/bin/env python3
"""A real Slurm on one machine, with accounting, as root or as an ordinary user.

munged, mariadbd, slurmdbd, slurmctld and one slurmd for each node run in the foreground, out of one folder, on free
ports of the loopback address only. Their process ids are recorded there together with their start times, and only
processes that match both are signalled, besides those of the cluster's own jobs. `scripts/packages.sh slurm` installs
the programs.

    slurm_cluster.py up --base DIR [--nodes 2] [--slurmd-timeout 30] ...
    eval "$(slurm_cluster.py env --base DIR)"
    slurm_cluster.py stop|start|kill --base DIR NAME   NAME: slurmctld, slurmd-n1, ...; for kill a node too: n1
    slurm_cluster.py pids --base DIR
    slurm_cluster.py down --base DIR [--purge]

The partitions: main (the default), short (one minute at most), low (its jobs give way and are requeued) and high (takes
low's place).
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd", "mariadb-install-db")
# Variables that steer Slurm's commands; what a surrounding job or a shell has set must not reach this cluster.
FOREIGN = ("SLURM", "SBATCH", "SALLOC", "SRUN", "SQUEUE", "SINFO", "SACCT", "SCANCEL", "SCONTROL", "MUNGE")
# Slurm 22.05 drops GPUs without a file, so each is given a device that does no harm: nothing opens it.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class ClusterError(RuntimeError):
    """The cluster could not do what was asked; says which log to read."""


@dataclass(frozen=True)
class Settings:
    """What a cluster is like: sizes for each node, times in seconds."""

    nodes: int = 2
    node_name: str = "n{}"
    cpus: int = 4
    memory: int = 6000  # MB
    gpus: int = 2
    grace: int = 15  # what a preempted job of `low` is left with
    cred_expire: int = 5  # a requeued job waits as long before it starts again; Slurm's own default is 120
    min_job_age: int = 3600  # finished jobs stay in scontrol and squeue for so long
    slurmd_timeout: int = 30  # a node that is silent for so long is down; noticed one or two message_timeouts later
    message_timeout: int = 10  # commands give up on an absent slurmctld after about as long
    extra: str = ""  # more lines for slurm.conf


@dataclass
class Process:
    """A daemon as it was started. The start time tells it from a later process with the same id."""

    pid: int
    start: int
    argv: list[str]
    at: int | str | None  # the port or the socket where it takes connections
    node: str | None


def find_program(name: str) -> str | None:
    """Where a program is; daemons often lie outside an ordinary user's PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin"]))


def missing_programs() -> list[str]:
    """The programs a cluster needs and this machine lacks."""
    return [name for name in PROGRAMS if find_program(name) is None]


def process_times(pid: int) -> tuple[int, int] | None:
    """A process' start time and its parent's id; None where it is gone or only waits to be reaped."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if rest[0] in "ZX" else (int(rest[19]), int(rest[1]))


def free_ports(count: int) -> list[int]:
    """Ports nobody has now, from below those that outgoing connections are given.

    A daemon that is stopped for a while finds its port still free when it comes back.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def listening(at: int | str) -> bool:
    """Whether something takes connections at a port or a socket's path."""
    with socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(at if isinstance(at, str) else ("127.0.0.1", at)) == 0


class Cluster:
    """A cluster in the folder `base`; one that was started there before is found again.

    As a context manager it is up inside the `with` and down after it.
    """

    def __init__(self, base: str | Path, settings: Settings | None = None) -> None:
        self.base = Path(base).absolute()
        self.settings = settings or Settings()
        self.etc, self.log, self.run, self.state = (self.base / name for name in ("etc", "log", "run", "state"))
        self.conf = self.etc / "slurm.conf"
        self.nodes: list[str] = []
        self.processes: dict[str, Process] = {}
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._record = self.base / "cluster.json"
        if self._record.exists():
            known = json.loads(self._record.read_text())
            self.nodes = known["nodes"]
            self.processes = {name: Process(**process) for name, process in known["processes"].items()}

    def __enter__(self) -> Cluster:
        self.up()
        return self

    def __exit__(self, *error: object) -> None:
        self.down()

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands, and what submits jobs, talk to this cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return kept | {"SLURM_CONF": str(self.conf)}

    def command(self, *argv: str, check: bool = True) -> str:
        """Run a command on this cluster; what it wrote to standard output."""
        if not self.conf.exists():  # Slurm's commands would look for it for a minute
            raise ClusterError(f"there is no cluster in {self.base}: no {self.conf}")
        done = subprocess.run(argv, env=self.env, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        if check and done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise ClusterError(f"{' '.join(argv)} ended with {done.returncode}: {said} (logs: {self.log})")
        return done.stdout

    # Processes

    def alive(self, name: str) -> bool:
        """Whether the daemon runs, as the very process that was started."""
        process = self.processes.get(name)
        if process is None:
            return False
        if process.pid in self._children:
            self._children[process.pid].poll()  # reaps it
        times = process_times(process.pid)
        return times is not None and times[0] == process.start

    def stop(self, name: str, number: int = signal.SIGTERM, seconds: float = 30) -> None:
        """Send a daemon a signal and wait until it is gone; it is killed where it stays longer than `seconds`."""
        for send in (number, signal.SIGKILL):
            if not self.alive(self._known(name)):
                return
            pid = self.processes[name].pid
            try:
                # Each leads a group of its own, where its helpers are too: a killed one cannot end them itself.
                (os.killpg if send == signal.SIGKILL else os.kill)(pid, send)
            except ProcessLookupError:
                continue
            until = time.monotonic() + seconds
            while self.alive(name) and time.monotonic() < until:
                time.sleep(0.02)
        if self.alive(name):
            raise ClusterError(f"{name} (process {self.processes[name].pid}) outlives SIGKILL")

    def start(self, name: str) -> None:
        """Start a stopped daemon again as it was, and wait until it takes connections."""
        if self.alive(self._known(name)):
            raise ClusterError(f"{name} runs already, as process {self.processes[name].pid}")
        process = self.processes[name]
        self._spawn(name, process.argv, process.at, process.node)

    def kill_node(self, node: str) -> None:
        """Take a node away as a loss of power does: slurmd, its slurmstepds and the jobs' processes there at once."""
        self._kill_marked(self._known(f"slurmd-{node}").removeprefix("slurmd-"))

    def _known(self, name: str) -> str:
        if name not in self.processes:
            raise ClusterError(f"there is no {name} in {self.base}; there are: {', '.join(self.processes) or 'none'}")
        return name

    def _spawn(self, name: str, argv: list[str], at: int | str | None, node: str | None = None) -> None:
        """Start a daemon, record it, and wait until it takes connections."""
        # slurmd hands its environment on to slurmstepd, and by this `_marked` finds both.
        env = self.env | ({"SLURMD_NODENAME": node} if node else {})
        with open(self.log / f"{name}.out", "ab") as out:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=self.run, start_new_session=True
            )
        self._children[child.pid] = child
        self.processes[name] = Process(child.pid, (process_times(child.pid) or (-1,))[0], argv, at, node)
        self._save()
        if at is not None:
            self._wait(name, lambda: listening(at))

    def _save(self) -> None:
        processes = {name: asdict(process) for name, process in self.processes.items()}
        partial = self._record.with_suffix(".partial")
        partial.write_text(json.dumps({"nodes": self.nodes, "processes": processes}, indent=1))
        partial.replace(self._record)

    def _wait(self, name: str, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until a daemon is ready, and no longer than it lives."""
        until = time.monotonic() + seconds
        logs = f"{self.log / name}.log and {name}.out beside it"
        while not ready():
            if not self.alive(name):
                raise ClusterError(f"{name} ended instead of getting ready; read {logs}")
            if time.monotonic() > until:
                raise ClusterError(f"{name} was not ready after {seconds:.0f} s; read {logs}")
            time.sleep(0.05)

    def _marked(self, node: str | None) -> set[int]:
        """Processes of slurmd, slurmstepd and jobs on one node of this cluster, or on all of them.

        All carry SLURM_CONF and SLURMD_NODENAME in their environment; one that has dropped it is found as a descendant.
        """
        found, children = set(), dict[int, list[int]]()
        for folder in Path("/proc").glob("[0-9]*"):
            times = process_times(pid := int(folder.name))
            if times is None:
                continue
            children.setdefault(times[1], []).append(pid)
            try:
                env = dict(entry.partition(b"=")[::2] for entry in (folder / "environ").read_bytes().split(b"\0"))
            except OSError:  # gone, or another user's
                continue
            name = env.get(b"SLURMD_NODENAME", b"").decode(errors="replace")
            if env.get(b"SLURM_CONF") == os.fsencode(self.conf) and (name == node if node else name in self.nodes):
                found.add(pid)
        todo = list(found)
        while todo:
            todo += (new := set(children.get(todo.pop(), [])) - found)
            found |= new
        return found - {os.getpid()}

    def _kill_marked(self, node: str | None = None) -> None:
        until = time.monotonic() + 20
        while pids := self._marked(node):  # again, for those that were being born
            if time.monotonic() > until:
                raise ClusterError(f"processes of {node or 'the nodes'} outlive SIGKILL: {sorted(pids)}")
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)

    # Up and down

    def up(self) -> None:
        """Start everything and wait until all nodes are idle and the accounting knows the cluster.

        Where that fails, what was started is stopped again, and the logs stay.
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
        self.processes = {}
        try:
            self._up()
        except BaseException:
            self.down()
            raise

    def _up(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name
        program = {name: find_program(name) or name for name in PROGRAMS}
        database, accounting, controller, *slurmds = free_ports(3 + len(self.nodes))
        password = secrets.token_hex(16)
        _write_private(self.etc / "munge.key", secrets.token_bytes(1024))
        _write_private(self.etc / "slurmdbd.conf", self._slurmdbd_conf(user, accounting, database, password).encode())
        self.conf.write_text(self._slurm_conf(user, controller, accounting, slurmds))
        devices = "".join(f"Name=gpu File={device}\n" for device in DEVICES[: self.settings.gpus])
        (self.etc / "gres.conf").write_text(f"AutoDetect=off\n{devices}")
        (self.etc / "cgroup.conf").write_text("ConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n")

        munge = ["--foreground", "--force", f"--key-file={self.etc}/munge.key", f"--socket={self.run}/munge.socket"]
        munge += [f"--pid-file={self.run}/munged.pid", f"--log-file={self.log}/munged.log", "--num-threads=2"]
        munge += [f"--seed-file={self.state}/munged.seed"]
        self._spawn("munged", [program["munged"], *munge], f"{self.run}/munge.socket")

        # The database is thrown away with the cluster: small, and without the care that makes it survive a crash.
        common = ["--no-defaults", f"--datadir={self.state / 'mysql'}", f"--user={user}", "--skip-name-resolve"]
        common += ["--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--innodb-flush-method=nosync"]
        install = [program["mariadb-install-db"], *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._spawn("mariadb-install-db", install, at=None)
        installer = self._children[self.processes["mariadb-install-db"].pid]
        if installer.wait(timeout=120):
            raise ClusterError(f"mariadb-install-db failed; read {self.log / 'mariadb-install-db.out'}")
        del self.processes["mariadb-install-db"]
        # Read at every start of mariadbd.
        who = "'slurm'@'127.0.0.1'"
        begin = ["CREATE DATABASE IF NOT EXISTS slurm;", f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY '{password}';"]
        _write_private(self.etc / "begin.sql", "\n".join([*begin, f"GRANT ALL ON slurm.* TO {who};\n"]).encode())
        mariadb = ["--bind-address=127.0.0.1", f"--port={database}", f"--socket={self.run}/mariadb.sock"]
        mariadb += [f"--pid-file={self.run}/mariadb.pid", f"--log-error={self.log}/mariadbd.log"]
        mariadb += [f"--init-file={self.etc}/begin.sql", f"--tmpdir={self.run}", "--performance-schema=off"]
        mariadb += ["--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"]
        self._spawn("mariadbd", [program["mariadbd"], *common, *mariadb], database)
        self._spawn("slurmdbd", [program["slurmdbd"], "-D"], accounting)
        self._spawn("slurmctld", [program["slurmctld"], "-D"], controller)
        for node, port in zip(self.nodes, slurmds, strict=True):
            self._spawn(f"slurmd-{node}", [program["slurmd"], "-D", "-N", node], port, node)
        self._wait("slurmctld", lambda: self._states() == ["idle"] * len(self.nodes))
        # Until then a job's records wait in slurmctld, and sacct finds no such cluster.
        clusters = ("sacctmgr", "-nP", "show", "cluster", "format=ControlPort")
        self._wait("slurmdbd", lambda: self.command(*clusters, check=False).split() == [str(controller)])

    def _states(self) -> list[str]:
        return self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%t", check=False).split()

    def down(self, purge: bool = False) -> None:
        """Kill everything that belongs to the cluster. The logs stay, or with `purge` nothing does."""
        # No farewell is needed: all that the daemons would save is removed here.
        for name in reversed(self.processes):
            self.stop(name, signal.SIGKILL)
        self._kill_marked()
        shutil.rmtree(self.base if purge else self.state, ignore_errors=True)

    # Files

    def _slurmdbd_conf(self, user: str, port: int, database: int, password: str) -> str:
        return f"""\
AuthType=auth/munge
AuthInfo=socket={self.run}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
CommunicationParameters=NoInAddrAny
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
LogFile={self.log}/slurmdbd.log
PidFile={self.run}/slurmdbd.pid
"""

    def _slurm_conf(self, user: str, port: int, accounting: int, slurmds: list[int]) -> str:
        its = self.settings
        size = f"CPUs={its.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={its.cpus} ThreadsPerCore=1"
        each = f"NodeHostname=localhost NodeAddr=127.0.0.1 {size} RealMemory={its.memory} Gres=gpu:{its.gpus}"
        nodes = "\n".join(f"NodeName={name} Port={at} {each}" for name, at in zip(self.nodes, slurmds, strict=True))
        return f"""\
ClusterName=graphufs
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={self.run}/munge.socket,cred_expire={its.cred_expire}
# Listen on the addresses given here, not on all.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={self.state}/ctld
SlurmdSpoolDir={self.state}/spool-%n
SlurmctldPidFile={self.run}/slurmctld.pid
SlurmdPidFile={self.run}/slurmd-%n.pid
SlurmctldLogFile={self.log}/slurmctld.log
SlurmdLogFile={self.log}/slurmd-%n.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
# Not a password: where the accounting finds munge.
AccountingStoragePass={self.run}/munge.socket
AccountingStorageTRES=gres/gpu
MailProg=/bin/true
# Without cgroups, which need root and a kernel's good will; memory is watched by asking once a second.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# Nodes may claim more than the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={its.memory // its.cpus}
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=5,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# A preempted job is sent the signal it asked for (sbatch --signal) at once, not only SIGTERM.
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
KillWait=5
# A step that ends while slurmctld is away tells it for a minute; a node that gave up on it earlier would be drained.
UnkillableStepTimeout=180
MinJobAge={its.min_job_age}
SlurmdTimeout={its.slurmd_timeout}
TCPTimeout=2
MessageTimeout={its.message_timeout}
{nodes}
PartitionName=DEFAULT Nodes={",".join(self.nodes)} State=UP DefaultTime=00:10:00 MaxTime=02:00:00
PartitionName=main PriorityTier=10 Default=YES
PartitionName=short PriorityTier=10 DefaultTime=00:01:00 MaxTime=00:01:00
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime={its.grace}
PartitionName=high PriorityTier=100 PreemptMode=OFF
{its.extra}
"""


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content)


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
            cluster.stop(given.name, signal.SIGTERM if given.action == "stop" else signal.SIGKILL)
        else:
            for name, process in cluster.processes.items():
                print(name, process.pid, "alive" if cluster.alive(name) else "gone")
    except ClusterError as error:
        sys.exit(f"slurm_cluster: {error}")


if __name__ == "__main__":
    main()
