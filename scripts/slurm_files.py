"""What a private Slurm is like: its settings, and the files in which Slurm reads them."""

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


def accounting_file(base: Path, user: str, port: int, database: int, password: str) -> str:
    """The content of slurmdbd.conf."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={base}/run/munge.socket
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
LogFile={base}/log/slurmdbd.log
PidFile={base}/run/slurmdbd.pid
"""


def cluster_file(base: Path, its: Settings, user: str, port: int, accounting: int, nodes: dict[str, int]) -> str:
    """The content of slurm.conf; `nodes` has the port of each node's slurmd."""
    size = f"CPUs={its.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={its.cpus} ThreadsPerCore=1"
    each = f"NodeHostname=localhost NodeAddr=127.0.0.1 {size} RealMemory={its.memory} Gres=gpu:{its.gpus}"
    lines = "\n".join(f"NodeName={name} Port={at} {each}" for name, at in nodes.items())
    return f"""\
ClusterName=graphufs
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={base}/run/munge.socket,cred_expire={its.cred_expire}
# Listen on the addresses given here, not on all.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={base}/state/ctld
SlurmdSpoolDir={base}/state/spool-%n
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd-%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd-%n.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
# Not a password: where the accounting finds munge.
AccountingStoragePass={base}/run/munge.socket
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
{lines}
PartitionName=DEFAULT Nodes={",".join(nodes)} State=UP DefaultTime=00:10:00 MaxTime=02:00:00
PartitionName=main PriorityTier=10 Default=YES
PartitionName=short PriorityTier=10 DefaultTime=00:01:00 MaxTime=00:01:00
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime={its.grace}
PartitionName=high PriorityTier=100 PreemptMode=OFF
{its.extra}
"""
