"""The real Slurm that the tests start: it works, it is alone with itself, and it goes away again."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm import MODULE, running, skip_without_slurm, slurm_cluster
from tests.support.private import TOP, listening_addresses, wait_for

Cluster = slurm_cluster.Cluster


def submit(cluster: Cluster, folder: Path, line: str, *options: str) -> str:
    """A job's id; what the job writes comes to `folder`/out."""
    return cluster.command("sbatch", "--parsable", "-o", str(folder / "out"), *options, "--wrap", line).strip()


def job(cluster: Cluster, job_id: str) -> dict[str, str]:
    """What scontrol says of a job."""
    words = cluster.command("scontrol", "show", "job", "-o", job_id).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def processes_of(base: Path) -> list[str]:
    """Command lines of all live processes, of whatever parent, that name this folder in them or in their environment.

    Commands of Slurm that a test runs are no longer there when it asks.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, env = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(base).encode() in line + env and b" down " not in line.replace(b"\0", b" "):
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_all_nodes_are_idle_and_every_daemon_runs(cluster: Cluster) -> None:
    assert cluster.nodes == ["n1", "n2"]
    assert cluster.command("sinfo", "-h", "-N", "-p", "main", "-o", "%N %t %c %m %G").splitlines() == [
        "n1 idle 4 6000 gpu:2",
        "n2 idle 4 6000 gpu:2",
    ]
    assert list(cluster.processes) == ["munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd-n1", "slurmd-n2"]
    assert all(map(cluster.alive, cluster.processes))


def test_nothing_of_it_can_be_reached_from_outside(cluster: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)):  # that such a one would be seen
        assert "0.0.0.0" in listening_addresses({os.getpid()})
    first = submit(cluster, tmp_path, "srun sleep 30", "-N2")
    wait_for(lambda: len([line for line in processes_of(cluster.base) if line.startswith("slurmstepd")]) >= 3)
    pids = {process.pid for process in cluster.processes.values()} | cluster._marked(None)
    assert len(pids) > len(cluster.processes)
    addresses = listening_addresses(pids)
    cluster.command("scancel", first)
    assert addresses and all(ipaddress.ip_address(address).is_loopback for address in addresses)


def test_what_a_surrounding_job_has_set_does_not_reach_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    monkeypatch.setenv("SLURM_CONF", "/elsewhere")
    monkeypatch.setenv("SQUEUE_FORMAT", "%q")
    assert not any(name.startswith(("SBATCH", "SQUEUE")) for name in cluster.env)
    assert submit(cluster, tmp_path, "true").isdigit()


def test_a_job_is_given_a_gpu_and_is_in_the_accounting(cluster: Cluster, tmp_path: Path) -> None:
    done = submit(cluster, tmp_path, "echo gpu=$CUDA_VISIBLE_DEVICES", "--gres=gpu:1", "--wait")
    assert (tmp_path / "out").read_text() in ("gpu=0\n", "gpu=1\n")
    states = ("sacct", "-X", "-n", "-P", "-o", "JobID,State,AllocTRES", "-j", done)
    wait_for(lambda: cluster.command(*states).startswith(f"{done}|COMPLETED|"), 15)
    assert "gres/gpu=1" in cluster.command(*states)


@pytest.mark.long  # the faults requeue jobs and see what comes of it
def test_a_requeued_job_keeps_its_id_and_starts_again_soon(cluster: Cluster, tmp_path: Path) -> None:
    again = submit(cluster, tmp_path, "echo restart $SLURM_RESTART_COUNT; sleep 60", "--open-mode=append")
    wait_for(lambda: (tmp_path / "out").exists())
    cluster.command("scontrol", "requeue", again)
    wait_for(lambda: job(cluster, again)["JobState"] == "RUNNING" and job(cluster, again)["Restarts"] == "1")
    wait_for(lambda: "restart 1\n" in (tmp_path / "out").read_text())
    cluster.command("scancel", again)


@pytest.mark.long  # test_its_node_killed shows it with a job of ours
def test_a_lost_node_is_noticed_and_its_job_is_requeued_and_down_leaves_nothing(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with running(request, slurmd_timeout=5, message_timeout=5) as own:
        # One that forgets its environment and its session is still the node's.
        moved = submit(own, tmp_path, f"env -i IN={own.base} setsid sleep 301 & sleep 300", "--gres=gpu:2")
        wait_for(lambda: any("sleep 301" in line for line in processes_of(own.base)))
        first = job(own, moved)["NodeList"]
        submit(own, tmp_path, "sleep 302", "-x", first)  # for `down` to end
        wait_for(lambda: any("sleep 302" in line for line in processes_of(own.base)))
        own.kill_node(first)
        assert not own.alive(f"slurmd-{first}")
        left = [line for line in processes_of(own.base) if "sleep" in line or line.startswith("slurmstepd")]
        assert sorted(line.split()[0] for line in left) == ["sleep", "slurmstepd:"], left

        def node() -> str:
            return own.command("sinfo", "-h", "-p", "main", "-n", first, "-o", "%T")

        wait_for(lambda: node().startswith("down"))
        wait_for(lambda: job(own, moved)["Restarts"] == "1")
        own.start(f"slurmd-{first}")
        wait_for(lambda: node().startswith(("idle", "completing")))
        own.stop("slurmctld")
        assert not own.alive("slurmctld")
        own.start("slurmctld")
        assert job(own, moved)["JobId"] == moved
        assert any("sleep 302" in line for line in processes_of(own.base))
    assert processes_of(own.base) == []
    assert not own.base.exists()


def test_a_failed_start_names_the_log_and_leaves_nothing_running(tmp_path: Path) -> None:
    skip_without_slurm()
    own = Cluster(tmp_path / "c", slurm_cluster.Settings(extra="NoSuchSetting=1"))
    with pytest.raises(slurm_cluster.ClusterError, match=rf"slurmctld ended .*{own.log}/slurmctld.log"):
        own.up()
    assert processes_of(own.base) == []
    assert "NoSuchSetting" in (own.log / "slurmctld.out").read_text()
    own.down(purge=True)
    assert not own.base.exists()


def test_the_command_line_finds_a_running_cluster(cluster: Cluster) -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-m", MODULE, *argv, "--base", str(cluster.base))
        return subprocess.run(argv, cwd=TOP, text=True, capture_output=True, timeout=60)

    assert run("env").stdout == f"export SLURM_CONF={cluster.conf}\n"
    assert [line.split()[::2] for line in run("pids").stdout.splitlines()] == [
        [name, "alive"] for name in cluster.processes
    ]
    second = run("up")
    assert second.returncode == 1 and "is up already" in second.stderr
    unknown = run("stop", "slurmd-n9")
    assert unknown.returncode == 1 and "there are: munged" in unknown.stderr
    assert all(map(cluster.alive, cluster.processes))
