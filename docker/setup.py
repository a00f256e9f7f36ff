#!/usr/bin/env python3
"""Make what the services need before any of them starts: keys and passwords once, configuration files each time.

Keys and passwords lie in three volumes, one for those who need them: Airflow's, its database's, the cluster's. What is
there stays; each file appears whole or not at all.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

sys.path.insert(0, str(Path(__file__).parents[1]))
from devstack.slurm.files import CGROUP_FILE, Places, Settings, accounting_file, cluster_file, gpu_file

SECRETS = Path("/secrets")
AIRFLOW, DATABASE, CLUSTER = (SECRETS / name for name in ("airflow", "database", "cluster"))
USERS = {"admin": "admin", "op": "op", "viewer": "viewer"}  # and their roles
NODES = ("node1", "node2")
SSH_PORT = 2222


def write(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.chmod(mode)
    partial.rename(path)


def once(path: Path, make: Callable[[], str | bytes], mode: int = 0o600) -> bytes:
    """The content of a file, made at first."""
    if not path.exists():
        write(path, make(), mode)
    return path.read_bytes()


def ssh_key(path: Path) -> str:
    """The public half of a key, which is made at first."""

    def make() -> bytes:
        return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(once(path, make), password=None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def number(name: str, default: int, least: int = 1) -> int:
    """A whole number among the settings."""
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or int(text) < least:
        sys.exit(f"setup: {name}={text!r} in .env is no whole number of at least {least}")
    return int(text)


def make_airflow(host_key: str) -> None:
    """Passwords, keys and the connection of Airflow."""
    # Postgres' own entry script reads it as another user than Airflow.
    password = once(DATABASE / "password", lambda: secrets.token_hex(32), 0o644).decode()
    its = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://airflow:{password}@postgres/airflow",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__GRAPHUFS__INSTANCE": secrets.token_hex(4),
    }
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in its.items())
    once(AIRFLOW / "environment", lambda: lines)
    once(AIRFLOW / "passwords.json", lambda: json.dumps({user: secrets.token_urlsafe(15) for user in USERS}))
    extra = {
        "key_file": str(AIRFLOW / "ssh_key"),
        "host_key": host_key,
        "no_host_key_check": False,
        "look_for_keys": False,
    }
    where = {"conn_type": "ssh", "host": "login", "port": SSH_PORT, "login": "graphufs"}
    write(AIRFLOW / "connection.json", json.dumps({**where, "extra": extra}))


def make_cluster(client_key: str) -> None:
    """The cluster's configuration and its keys."""
    etc = CLUSTER / "etc"
    once(etc / "munge.key", lambda: secrets.token_bytes(1024))
    password = once(CLUSTER / "database_password", lambda: secrets.token_hex(32)).decode()
    settings = Settings(
        cpus=number("NODE_CPUS", 2),
        memory=number("NODE_MEMORY", 6000, least=3072),
        gpus=0,
        extra="PropagateResourceLimits=NONE",
    )
    hosts = {"controller": "controller", "accounting": "accounting", "database": "database"}
    nodes = dict.fromkeys(NODES, 6818)
    places = Places(Path("/cluster"), "graphufs", 6817, 6819, 3306, nodes, hosts, Path("/cluster/ctld"))
    write(etc / "slurm.conf", cluster_file(places, settings), 0o644)
    write(etc / "slurmdbd.conf", accounting_file(places, password))
    write(etc / "gres.conf", gpu_file(0), 0o644)
    write(etc / "cgroup.conf", CGROUP_FILE, 0o644)
    # Read at every start of the database.
    who = "'slurm'@'%'"
    begin = ["CREATE DATABASE IF NOT EXISTS slurm;", f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY '{password}';"]
    write(etc / "begin.sql", "\n".join([*begin, f"GRANT ALL ON slurm.* TO {who};\n"]))
    write(CLUSTER / "authorized_keys", f"{client_key}\n", 0o644)


def main() -> None:
    """Make all of it."""
    os.umask(0o077)
    make_cluster(ssh_key(AIRFLOW / "ssh_key"))
    make_airflow(ssh_key(CLUSTER / "ssh_host_key"))
    print("setup: keys, passwords and configuration are there")


if __name__ == "__main__":
    main()
