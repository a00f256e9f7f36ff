"""What a job listens on obeys no stranger: somebody who can reach the port, and is not of the job."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from jobs.job.folder import read_json
from jobs.worker import certificate, multi_process
from tests.jobs import surroundings, until
from tests.support.dask_member import NETWORK

STRANGER = """
import os, sys
from pathlib import Path
from distributed import Client
from jobs.worker import certificate
place, own = sys.argv[1], Path(sys.argv[2])
certificate.write(own)
for address, security in ((f"tcp://{place}", None), (f"tls://{place}", certificate.security(own))):
    try:
        with Client(address, timeout=3, security=security) as client:
            print("obeyed", client.run_on_scheduler(os.getpid))
    except OSError as error:
        print("refused", type(error).__name__)
"""
"""Knows the address, and has a certificate of his own making."""


def listening(processes):
    """The addresses on which processes and those they have started listen."""
    found = set()
    for process in processes:
        first = psutil.Process(process.pid)
        for one in [first, *first.children(recursive=True)]:
            found |= {tuple(c.laddr) for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return sorted(found)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The folder of a job of two processes that share the work, and these."""
    folder = tmp_path_factory.mktemp("job")
    command = [sys.executable, "-m", "tests.support.dask_member", str(folder)]
    with open(folder / "log", "w") as log:
        processes = [subprocess.Popen([*command, str(rank)], stdout=log, stderr=log) for rank in (0, 1)]
    try:
        until(lambda: (folder / "ready.json").exists() or processes[0].poll() is not None, 120)
        assert (folder / "ready.json").exists(), (folder / "log").read_text()
        yield folder, processes
        (folder / "done").touch()
        codes = [process.wait(60) for process in processes]
        assert codes == [0, 0], (folder / "log").read_text()
        assert not list(folder.glob("private-*"))
    finally:
        for process in processes:
            process.kill()


def test_the_jobs_own_processes_work_for_each_other(job):
    folder, _ = job
    assert read_json(folder / "ready.json")["answers"] == [42, 42]


def test_a_stranger_who_knows_the_address_is_not_obeyed(job, tmp_path):
    folder, _ = job
    place = read_json(folder / "scheduler-7-0.json")["address"].removeprefix("tls://")
    command = [sys.executable, "-c", STRANGER, place, str(tmp_path / "own")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=surroundings())
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["refused", "refused"], done.stdout


def test_every_port_on_the_jobs_network_asks_for_the_certificate_and_there_are_no_pages(job):
    _, processes = job
    places = listening(processes)
    ours = [place for place in places if place[0] == NETWORK]
    assert len(ours) >= 5  # the scheduler, and two workers with their nannies
    for place in ours:
        ssl.get_server_certificate(place, timeout=10)
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(place, 10) as plain, trusting.wrap_socket(plain) as connection:
            with pytest.raises((ssl.SSLError, ConnectionError), match="(?i)certificate required|reset"):
                connection.recv(1)
    for place in set(places) - set(ours):
        assert place[0] == "127.0.0.1"
        for path in ("/", "/info/main/workers.html", "/json/identity.json", "/metrics", "/health"):
            with socket.create_connection(place, 10) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                assert b" 404 " in connection.recv(100).splitlines()[0], (place, path)


def test_the_certificate_is_its_owners_alone_and_valid_where_the_clock_is_behind(tmp_path):
    from cryptography import x509

    folder = tmp_path / "private"
    certificate.write(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / certificate.NAME).stat().st_mode) == 0o600
    made = x509.load_pem_x509_certificate((folder / certificate.NAME).read_bytes())
    span = made.not_valid_after_utc - made.not_valid_before_utc
    assert span == certificate.CLOCKS + certificate.VALID


@pytest.mark.long
def test_the_coordinator_of_a_training_listens_on_the_jobs_network_alone(tmp_path):
    code = f"""
import json, psutil, socket
from pathlib import Path
from jobs.worker import multi_process
multi_process.address = lambda interface: {NETWORK!r}
with multi_process._distributed_jax(multi_process.Member(Path({str(tmp_path)!r}), "7", 0, 1, None)):
    found = [c.laddr for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"]
    for place in found:
        try:
            socket.create_connection(("127.0.0.1", place.port), 3)
            print("a stranger of another network gets in")
        except ConnectionRefusedError:
            pass
    print(json.dumps([one.ip.removeprefix("::ffff:") for one in found]))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=surroundings())
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) == {NETWORK} and "stranger" not in done.stdout


SUMMING = """
import json, psutil, sys
from pathlib import Path
from jobs.worker import multi_process
multi_process.address = lambda interface: sys.argv[1]
with multi_process._distributed_jax(multi_process.Member(Path(sys.argv[2]), "7", int(sys.argv[3]), 2, None)):
    import jax.numpy as jnp
    from jax.experimental.multihost_utils import process_allgather
    total = int(process_allgather(jnp.ones(3)).sum())
    listening = [c.laddr for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"]
    print(json.dumps([total, [one.ip.removeprefix("::ffff:") for one in listening]]))
    process_allgather(jnp.ones(1))  # neither ends before the other has looked
"""


@pytest.mark.long
def test_what_sums_over_the_processes_of_a_training_listens_on_the_jobs_network_alone(tmp_path):
    command = [sys.executable, "-c", SUMMING, NETWORK, str(tmp_path)]
    processes = [
        subprocess.Popen(
            [*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings()
        )
        for rank in (0, 1)
    ]
    try:
        found = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, found, strict=True):
        assert process.returncode == 0, err
        total, addresses = json.loads(out.splitlines()[-1])
        assert total == 6 and addresses and set(addresses) == {NETWORK}


@pytest.mark.long
def test_nccl_is_told_the_sites_network(tmp_path, monkeypatch):
    import jax

    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: None)
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: None)
    for given, wanted in ((None, "=lo"), ("=ib0", "=ib0")):
        monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
        if given:
            monkeypatch.setenv("NCCL_SOCKET_IFNAME", given)
        with multi_process._distributed_jax(multi_process.Member(Path(tmp_path), "7", 0, 1, "lo")):
            assert os.environ["NCCL_SOCKET_IFNAME"] == wanted
