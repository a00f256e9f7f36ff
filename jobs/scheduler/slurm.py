"""Slurm's commands: what they are asked, and what their answers mean.

An answer that did not come is not an answer: `Silent` is raised, and nothing may be concluded from it.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from submitit.slurm.slurm import read_job_id

TIMEOUT = 60.0
"""Seconds that a command may take. Slurm's own give up after some 20."""
FINAL = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
FINAL |= {"REVOKED", "TIMEOUT", "LAUNCH_FAILED", "RECONFIG_FAIL"}
"""States in which a job is over; whatever else Slurm says, the job is taken to be live."""
OFTEN_REQUEUED = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
"""States after which Slurm may put the job back into the queue a moment later."""


class Silent(RuntimeError):
    """A command of Slurm failed or did not answer; `str()` says which and what it printed."""


class NotInstalled(Silent):
    """A command of Slurm is not on this machine, so that nothing can have been submitted."""


class Refused(RuntimeError):
    """sbatch said no; `str()` is what it said."""


@dataclass(frozen=True)
class Row:
    """What Slurm says of a job or of an element of a job array.

    `state` is one of Slurm's, without addition; `why` the reason of squeue, or the exit code of sacct.
    """

    id: str
    state: str
    why: str = ""
    start: str = ""
    end: str = ""
    nodes: str = ""

    @property
    def words(self) -> str:
        """The reason or exit code, where there is one."""
        return "" if self.why in ("None", "0:0") else self.why


def environment() -> dict[str, str]:
    """This process's environment without what a job's surroundings put into it."""
    own = ("SLURM_CONF",)
    strange = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SUBMITIT_")
    return {name: value for name, value in os.environ.items() if name in own or not name.startswith(strange)}


def _ask(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment())
    except FileNotFoundError:
        raise NotInstalled(f"{command[0]}: command not found") from None
    except OSError as error:
        raise Silent(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Silent(f"{command[0]} gave no answer within {TIMEOUT:.0f} s") from None
    if done.returncode:
        raise Silent(f"{command[0]} failed: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout


def sbatch(script: str, options: Sequence[str] = ()) -> str:
    """Submit a script and return the job's number.

    Raises
    ------
    Refused
        If Slurm says that it does not take the job.
    Silent
        If it is unknown whether it has: the answer is lost, or the controller was out of reach.
    """
    try:
        answer = _ask(["sbatch", *options, script])
    except NotInstalled as missing:
        raise Refused(str(missing)) from None
    except Silent as silent:
        words = str(silent)
        # of what sbatch may print only this leaves open whether it was heard
        lost = re.search(r"no answer|timed out|Unable to contact|onnection refused|Zero Bytes|ommunicat|empora", words)
        if lost or "error:" not in words:
            raise
        raise Refused(words) from None
    found = re.search(r"Submitted batch job (\d+)", answer)
    if found is None:
        raise Silent(f"sbatch's answer has no job number: {answer!r}")
    return found.group(1)


def squeue() -> dict[str, Row]:
    """All of this user's jobs that the controller remembers, finished ones too, by number."""
    answer = _ask(["squeue", "-h", "-r", "-t", "all", "-u", getpass.getuser(), "-o", "%i|%T|%r|%S|%e|%N"])
    rows = {}
    for line in answer.splitlines():
        number, state, why, start, end, nodes = line.split("|", 5)
        rows[number] = Row(number, state, why, start, end, nodes)
    return rows


def sacct(numbers: Iterable[str], since: datetime) -> dict[str, Row]:
    """What accounting has on jobs, by number, the last start of each.

    Without a time sacct looks no further back than midnight, so it is always told one.
    """
    answer = _sacct(["-j", ",".join(sorted(numbers))], since, "JobID,State,ExitCode,Start,End,NodeList", "-X")
    rows: dict[str, Row] = {}
    for line in answer:
        state = line[1].split()[0] if line[1] else "UNKNOWN"  # `CANCELLED by 1000`
        for part in read_job_id(line[0]):
            first, last = (int(part[1]), int(part[-1])) if len(part) > 1 else (0, 0)
            for element in range(first, last + 1):
                number = part[0] if len(part) == 1 else f"{part[0]}_{element}"
                rows[number] = Row(number, state, line[2], line[3], line[4], line[5])
    return rows


def find(name: str, since: datetime) -> list[str]:
    """The numbers of this user's jobs of a name, of squeue and of accounting: both are asked, both must answer."""
    queued = _ask(["squeue", "-h", "-t", "all", "-u", getpass.getuser(), "--name", name, "-o", "%A|%F"])
    numbers = {line.split("|")[1] for line in queued.splitlines()}
    for line in _sacct(["--name", name], since, "JobID", "-X"):
        numbers.add(line[0].split("_")[0])
    return sorted(numbers, key=int)


def _sacct(selection: Sequence[str], since: datetime, columns: str, *options: str) -> list[list[str]]:
    # a day earlier: Slurm's clock may go wrong, and its time is the site's local one
    start = (since - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    command = ["sacct", "-n", "-P", "-S", start, "-o", columns, *options, *selection]
    return [line.split("|") for line in _ask(command).splitlines()]


def segments(numbers: Iterable[str], since: datetime) -> list[dict[str, str]]:
    """Every start of jobs that accounting has, requeued ones too, with what they used."""
    columns = "JobID,State,Submit,Eligible,Start,End,ElapsedRaw,NodeList,AllocTRES,AllocCPUS,TotalCPU,ExitCode"
    columns += ",ConsumedEnergyRaw"
    lines = _sacct(["-j", ",".join(sorted(numbers))], since, columns, "-D")
    return [dict(zip(columns.split(","), line, strict=True)) for line in lines]


def scancel(number: str) -> None:
    """Cancel a job, or all elements of an array."""
    _ask(["scancel", number])


def test_only(script: str) -> str:
    """What Slurm says when it would start a script's job, or why it would not take it; nothing is submitted.

    Raises
    ------
    Refused
        If Slurm would not accept the script.
    """
    command = ["sbatch", "--test-only", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment())
    words = " ".join((done.stderr + done.stdout).split())
    if done.returncode:
        raise Refused(words)
    return words


def gpus() -> str:
    """The kinds of GPUs that the cluster's nodes have, as sinfo lists them; empty where there is none."""
    kinds = {line.split("(")[0] for line in _ask(["sinfo", "-h", "-o", "%G"]).splitlines()}
    return ", ".join(sorted(kind for kind in kinds if "gpu" in kind))
