"""Several processes of one job: training with jax.distributed, prepare, normalize and evaluate with dask.

The processes find each other through a file in the attempt's folder that the first one writes, with its address as the
site's network interface has it. Nothing relies on node names that resolve. What they listen on is bound to that
address, and dask's part of it asks for the job's certificate; jax.distributed knows nothing of the kind.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage.atomic import write_json
from jobs.job.reading import read_json
from jobs.worker import certificate

PATIENCE = 300.0
"""Seconds for which processes wait for each other."""
HERE = "127.0.0.1:0"
"""Where dask puts the web servers that it starts in any case, with its pages or without."""
NO_PAGES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}


@dataclass(frozen=True)
class Member:
    """Number `rank` of the `count` processes of a job, which has the number `id` at the scheduler.

    They find each other in the `folder` of the attempt, and speak over the network interface, or over that of the
    node's name where it is None.
    """

    folder: Path
    id: str
    rank: int
    count: int
    interface: str | None


def run(step: str, experiment: Experiment, root: Path, member: Member, **options: Any) -> dict[str, Any]:
    """Run a step in all processes of the job together; what the first one returns counts."""
    if step == "train":
        with _distributed_jax(member):
            return run_step(step, experiment, root, **options)
    if member.rank:
        _dask_worker(member)
        return {"step": step, "status": "helped"}
    from graphufs import parallel

    with _dask_client(member) as client, parallel.over(client):
        return run_step(step, experiment, root, **options)


def address(interface: str | None) -> str:
    """This node's IPv4 address on an interface, by default that of its name.

    Raises
    ------
    UserError
        If this node has no such interface.
    """
    if interface is None:
        return socket.gethostbyname(socket.gethostname())
    known = psutil.net_if_addrs()
    for one in known.get(interface, ()):
        if one.family == socket.AF_INET:
            return str(one.address)
    raise UserError(
        f"this node has no interface {interface!r}, it has {', '.join(known)}; change `interface` in the site's file"
    )


def _meeting_point(member: Member, what: str) -> Path:
    """A file of this segment: requeued, a job has another one."""
    return member.folder / f"{what}-{_segment(member)}.json"


def _segment(member: Member) -> str:
    return f"{member.id}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _private(member: Member) -> Path:
    """A folder of this segment with what only its processes may know."""
    return member.folder / f"private-{_segment(member)}"


def _await(path: Path) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (content := read_json(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the job's first process did not write {path} within {PATIENCE:.0f} s")
        time.sleep(0.1)
    return content


@contextlib.contextmanager
def _distributed_jax(member: Member) -> Iterator[None]:
    import jax

    if member.interface is not None:  # where NCCL's processes find each other, unless the site says otherwise
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={member.interface}")
    path = _meeting_point(member, "coordinator")
    if member.rank == 0:
        host = address(member.interface)
        with socket.socket() as probe:  # a free port; it is taken again at once by the coordinator
            probe.bind((host, 0))
            place = f"{host}:{probe.getsockname()[1]}"
        write_json(path, {"address": place})
    place = _await(path)["address"]
    bind = {"coordinator_bind_address": place} if member.rank == 0 else {}
    jax.distributed.initialize(
        place, num_processes=member.count, process_id=member.rank, initialization_timeout=int(PATIENCE), **bind
    )
    try:
        with _gloo_on(address(member.interface)):
            yield
    finally:
        jax.distributed.shutdown()


@contextlib.contextmanager
def _gloo_on(host: str) -> Iterator[None]:
    """Have Gloo, which sums over processes on CPUs, listen on the job's network alone, not on that of the node's name.

    JAX has no public option for it. With a JAX that lacks this function Gloo listens where it likes, and a test fails.
    """
    from jaxlib import _jax

    make = getattr(_jax, "make_gloo_tcp_collectives", None)
    if make is None:
        yield
        return
    _jax.make_gloo_tcp_collectives = functools.partial(make, hostname=host)
    try:
        yield
    finally:
        _jax.make_gloo_tcp_collectives = make


@contextlib.contextmanager
def _dask_client(member: Member) -> Iterator[Any]:
    """The scheduler and one worker in this process's care, and a client that waits for all the others.

    Who has not the job's certificate is let in nowhere: a dask scheduler runs code for whoever reaches it.
    """
    import dask
    from distributed import Client, LocalCluster

    host = address(member.interface)
    threads = max(len(os.sched_getaffinity(0)) - 1, 1)
    private = _private(member)
    for left in member.folder.glob("private-*"):  # by a segment that was killed
        shutil.rmtree(left)
    certificate.write(private)
    security = certificate.security(private)
    try:
        with (
            dask.config.set(NO_PAGES),
            LocalCluster(
                n_workers=1,
                threads_per_worker=threads,
                processes=True,
                host=host,
                security=security,
                scheduler_kwargs={"dashboard": False, "dashboard_address": HERE},
                worker_dashboard_address=HERE,
            ) as cluster,
            Client(cluster, security=security) as client,
        ):
            write_json(_meeting_point(member, "scheduler"), {"address": cluster.scheduler_address})
            client.wait_for_workers(member.count, timeout=PATIENCE)
            yield client
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _dask_worker(member: Member) -> None:
    """Work for the first process's scheduler until that ends."""
    import asyncio

    import dask
    from distributed import Nanny

    scheduler = _await(_meeting_point(member, "scheduler"))["address"]

    async def work() -> None:
        async with Nanny(
            scheduler,
            nthreads=len(os.sched_getaffinity(0)),
            host=address(member.interface),
            security=certificate.security(_private(member)),
            dashboard=False,
            dashboard_address=HERE,
        ) as nanny:
            await nanny.finished()

    with dask.config.set(NO_PAGES):
        asyncio.run(work())
