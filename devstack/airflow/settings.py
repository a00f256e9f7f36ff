"""What a private Airflow is like: its settings, its users, its secrets, and the configuration made of them."""

from __future__ import annotations

import base64
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devstack.airflow import postgresql

TOP = Path(__file__).resolve().parents[2]
Database = Literal["postgresql", "sqlite"]
USERS = {"admin": "admin", "op": "op", "viewer": "viewer"}  # and their roles


@dataclass(frozen=True)
class Settings:
    """What an Airflow is like."""

    dags: str | None = None  # the folder of DAGs; by default `dags` in the base
    port: int = 0  # of the user interface; 0: a free one
    parallelism: int = 4  # tasks that run at once
    connections: dict[str, str] = field(default_factory=dict)  # by name, as JSON or URI: AIRFLOW_CONN_<NAME>
    environment: dict[str, str] = field(default_factory=dict)  # more variables, AIRFLOW__<SECTION>__<KEY> among them
    seconds: float = 180  # how long each part has to get ready
    pools: dict[str, int] | None = None  # slots by name; None: those that the sites name
    database: Database = "postgresql"
    files: dict[str, str] = field(default_factory=dict)  # written below the base before anything starts, by name


def airflow_program() -> Path | None:
    """The `airflow` command: of this checkout's .venv-airflow, or of the environment this runs in."""
    for folder in (TOP / ".venv-airflow" / "bin", Path(sys.executable).parent):
        if (folder / "airflow").exists():
            return folder / "airflow"
    return None


def missing(database: str = "postgresql") -> list[str]:
    """What a stack needs that is missing on this machine, each with the way to get it."""
    absent = [] if Path("/proc/self/stat").exists() else ["Linux, for its /proc"]
    absent += [] if airflow_program() else ["Airflow: run `make setup-airflow`"]
    if database == "postgresql" and not postgresql.programs():
        absent.append("a PostgreSQL server: run scripts/packages.sh postgresql as root")
    return absent


def make_secrets(known: dict[str, str]) -> dict[str, str]:
    """The passwords and keys of an Airflow: those known, and new ones where one is missing."""
    made = {name: secrets.token_hex(32) for name in ("database", "api")}
    made |= {"jwt": secrets.token_hex(64), "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}
    return made | {name: secrets.token_urlsafe(15) for name in USERS} | known


def configuration(settings: Settings, base: Path, url: str, ports: dict[str, int], its: dict[str, str]) -> str:
    """The content of airflow.cfg."""
    dags = Path(settings.dags or base / "dags").absolute()
    database = f"sqlite:///{base}/airflow.db"
    if settings.database == "postgresql":
        where = f"127.0.0.1:{ports[postgresql.NAME]}/postgres"
        database = f"postgresql+psycopg2://airflow:{its['database']}@{where}"
    lines = f"""\
[core]
dags_folder = {dags}
load_examples = False
executor = LocalExecutor
parallelism = {settings.parallelism}
fernet_key = {its["fernet"]}
simple_auth_manager_users = {",".join(f"{user}:{role}" for user, role in USERS.items())}
simple_auth_manager_passwords_file = {base}/passwords.json
execution_api_server_url = {url}/execution/
min_serialized_dag_update_interval = 2
# The default asks the network.
hostname_callable = socket.gethostname
[database]
sql_alchemy_conn = {database}
[api]
host = 127.0.0.1
port = {ports["api-server"]}
base_url = {url}
workers = 1
secret_key = {its["api"]}
[api_auth]
jwt_secret = {its["jwt"]}
[logging]
namespace_levels = asyncssh=WARNING paramiko=WARNING
[dag_processor]
refresh_interval = 10
min_file_process_interval = 5
[scheduler]
scheduler_heartbeat_sec = 2
[triggerer]
job_heartbeat_sec = 2
"""
    return lines.replace("%", "%%")  # Airflow reads it with interpolation
