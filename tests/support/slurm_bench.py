"""A place to run jobs on a real Slurm: a root, a site, and commands of Slurm that can be made to fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.emulator import checkpoint
from graphufs.storage.paths import Paths
from jobs.job.folder import JobFolder
from jobs.site import SHIPPED
from tests.slurm import slurm_cluster

TINY = Path(__file__).parents[2] / "experiments" / "tiny.yaml"
COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun", "sinfo")


class Bench:
    """Jobs of one root on a cluster.

    `shim` puts a script before a command of Slurm; `$REAL` in it is the true one. `site` changes keys of the shipped
    site for the test cluster.
    """

    def __init__(self, cluster: slurm_cluster.Cluster, folder: Path, prepared: Path | None = None, **site: Any) -> None:
        self.cluster, self.root, self.bin = cluster, folder / "root", folder / "bin"
        self.bin.mkdir(parents=True)
        if prepared is None:
            self.root.mkdir()
        else:
            shutil.copytree(prepared, self.root)
        content = yaml.safe_load((SHIPPED / "testcluster.yaml").read_text())
        resources = content.pop("resources") | site.pop("resources", {})
        (folder / "sites").mkdir()
        self.site_file = folder / "sites" / "bench.yaml"
        self.site_file.write_text(yaml.safe_dump(content | {"resources": resources} | site))
        path = os.pathsep.join([str(self.bin), cluster.env.get("PATH", ""), "/usr/sbin"])
        self.env = cluster.env | {"GRAPHUFS_SITES": str(folder / "sites"), "PATH": path}

    def shim(self, command: str, script: str | None) -> None:
        """Put a script before a command, or take it away."""
        place = self.bin / command
        if script is None:
            place.unlink()
            return
        real = slurm_cluster.find_program(command)
        temporary = self.bin / f".{command}"
        temporary.write_text(f"#!/bin/bash\nREAL={real}\n{script}\n")
        temporary.chmod(0o755)
        temporary.replace(place)

    def start(self, *arguments: str, code: str | None = None) -> subprocess.Popen[str]:
        """The command line in a process of its own, or a piece of Python that ends with calling it."""
        program = ["-m", "jobs"] if code is None else ["-c", code]
        return subprocess.Popen(
            [sys.executable, *program, *arguments, "--root", str(self.root)],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 600) -> dict[str, Any]:
        """Run a command with --json and return what it says; `code` is its exit code."""
        process = self.start(*arguments, "--json")
        out, errors = process.communicate(timeout=timeout)
        try:
            content: dict[str, Any] = json.loads(out)
        except ValueError:
            raise AssertionError(f"{arguments} ended with {process.returncode}: {out}{errors}") from None
        return {**content, "code": process.returncode, "errors": errors}

    def submit(self, step: str, *options: str) -> dict[str, Any]:
        """Submit a step of tiny under the key `job`; the job's status."""
        job: dict[str, Any] = self.run("submit", step, "tiny", "--site", "bench", "--key", "job", *options)["jobs"][0]
        return job

    def status(self, key: str = "job") -> dict[str, Any]:
        """A job's status."""
        job: dict[str, Any] = self.run("status", key, "--site", "bench")["jobs"][0]
        return job

    def history(self, key: str = "job") -> dict[str, Any]:
        """A job's attempts and segments."""
        history: dict[str, Any] = self.run("status", key, "--site", "bench", "--history")["histories"][0]
        return history

    def job(self, key: str = "job") -> JobFolder:
        """A job's folder."""
        return JobFolder(self.root, key)

    def until(self, *states: str, key: str = "job", seconds: float = 400) -> dict[str, Any]:
        """Look until a job is in one of some states."""
        end = time.monotonic() + seconds
        while (status := self.status(key))["state"] not in states:
            assert time.monotonic() < end, f"after {seconds} s the job is {status['state']}, {status['message']}"
            time.sleep(2)  # a look is a process that takes a second of the cores which the job needs
        return status

    def until_updates(self, count: int, key: str = "job", seconds: float = 400) -> None:
        """Wait until a training has done so many updates."""
        wait(lambda: self.job(key).progress() or {"label": "", "done": 0}, count, seconds)

    def submissions(self, key: str = "job") -> int:
        """How many jobs Slurm ever took for a key."""
        job = self.job(key)
        names = {attempt.name for number in job.attempts() if (attempt := job.attempt(number)) is not None}
        out = self.cluster.command("squeue", "-h", "-t", "all", "-o", "%j")
        return len([name for name in out.splitlines() if name in names])


def wait(progress: Callable[[], dict[str, Any]], count: int, seconds: float) -> None:
    """Wait until a training's progress has come to so many updates."""
    end = time.monotonic() + seconds
    while not ((event := progress())["label"].startswith("stage") and event["done"] >= count):
        assert time.monotonic() < end, f"waited {seconds} s for update {count}: {event}"
        time.sleep(0.1)


def wait_for(condition: Callable[[], object], seconds: float = 240) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.1)


def experiment(*overrides: str) -> Experiment:
    """Tiny with overrides."""
    return loading.load(TINY, overrides)


def final_arrays(of: Experiment, root: Path) -> dict[str, np.ndarray]:
    """Every array of a training's last checkpoint."""
    path = checkpoint.last(Paths(of, root).checkpoints)
    assert path is not None
    found = {}
    for file in ("emulator.npz", "training.npz"):
        found |= {f"{file}:{name}": array for name, array in checkpoint.read_arrays(path, file).items()}
    return found


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The same names, and under each the same bits."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype and array.tobytes() == other[name].tobytes(), name
