"""What a private Slurm is like: its settings, its places, and the files in which Slurm reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Slurm 22.05 drops GPUs without a file, so each is given a device that does no harm: nothing opens it.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


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


LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Places:
    """Where a cluster's parts are and take connections: on one machine, or each on a machine of its own."""

    base: Path  # each machine has its own sockets, logs and spool below it
    user: str  # as whom all daemons run, and so the only one who can have jobs
    controller: int
    accounting: int
    database: int
    nodes: dict[str, int]  # the port of each node's slurmd
    hosts: dict[str, str] | None = None
    """The names of the machines of `controller`, `accounting` and `database`; a node's is its own. None: one machine,
    where everything listens on the loopback address alone."""
    state: Path | None = None  # what slurmctld must not lose; below the base by default

    def host(self, part: str) -> str:
        """Where a part is reached."""
        return self.hosts[part] if self.hosts else LOOPBACK


def gpu_file(gpus: int) -> str:
    """The content of gres.conf."""
    return "AutoDetect=off\n" + "".join(f"Name=gpu File={device}\n" for device in DEVICES[:gpus])


# Without cgroups, which need root and a kernel's good will.
CGROUP_FILE = "ConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n"


def accounting_file(places: Places, password: str) -> str:
    """The content of slurmdbd.conf."""
    base, local = places.base, places.hosts is None
    listen = "CommunicationParameters=NoInAddrAny\n" if local else ""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={base}/run/munge.socket
DbdHost={"localhost" if local else places.host("accounting")}
DbdAddr={places.host("accounting")}
DbdPort={places.accounting}
{listen}SlurmUser={places.user}
StorageType=accounting_storage/mysql
StorageHost={places.host("database")}
StoragePort={places.database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
LogFile={base}/log/slurmdbd.log
PidFile={base}/run/slurmdbd.pid
"""


def cluster_file(places: Places, its: Settings) -> str:
    """The content of slurm.conf."""
    base, local, user = places.base, places.hosts is None, places.user
    # On one machine they listen on the addresses given here, not on all. Machines that come and go, as containers do,
    # may have another address each time.
    communication = "NoCtldInAddrAny,NoInAddrAny" if local else "NoAddrCache"
    controller = f"localhost({LOOPBACK})" if local else places.host("controller")
    gpus = f" Gres=gpu:{its.gpus}" if its.gpus else ""
    counted = "GresTypes=gpu\nAccountingStorageTRES=gres/gpu\n" if its.gpus else ""
    size = f"CPUs={its.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={its.cpus} ThreadsPerCore=1"
    each = f"{size} RealMemory={its.memory}{gpus}"
    lines = "\n".join(
        f"NodeName={name} Port={at} NodeHostname={'localhost' if local else name} "
        f"NodeAddr={LOOPBACK if local else name} {each}"
        for name, at in places.nodes.items()
    )
    return f"""\
ClusterName=graphufs
SlurmctldHost={controller}
SlurmctldPort={places.controller}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={base}/run/munge.socket,cred_expire={its.cred_expire}
CommunicationParameters={communication}
StateSaveLocation={places.state or base / "state" / "ctld"}
SlurmdSpoolDir={base}/state/spool-%n
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd-%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd-%n.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={places.host("accounting")}
AccountingStoragePort={places.accounting}
# Not a password: where the accounting finds munge.
AccountingStoragePass={base}/run/munge.socket
MailProg=/bin/true
# Memory is watched by asking once a second.
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
{counted}SchedulerType=sched/backfill
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
{lines}
PartitionName=DEFAULT Nodes={",".join(places.nodes)} State=UP DefaultTime=00:10:00 MaxTime=02:00:00
PartitionName=main PriorityTier=10 Default=YES
PartitionName=short PriorityTier=10 DefaultTime=00:01:00 MaxTime=00:01:00
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime={its.grace}
PartitionName=high PriorityTier=100 PreemptMode=OFF
{its.extra}
"""
