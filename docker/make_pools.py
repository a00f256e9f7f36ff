#!/usr/bin/env python3
"""Make the pools and the connection that Airflow lacks. What is there, and may have been changed by hand, stays."""

from __future__ import annotations

from pathlib import Path

from airflow.models import Connection, Pool
from airflow.utils.session import create_session

from jobs.airflow.pools import pools

NAME = "cluster_login"
CONNECTION = Path("/secrets/airflow/connection.json")


def main() -> None:
    """Make them."""
    for name, its in pools().items():
        if Pool.get_pool(name) is None:
            Pool.create_or_update_pool(name, its["slots"], its["description"], its["include_deferred"])
            print(f"made the pool {name}")
    with create_session() as session:
        if session.query(Connection).filter(Connection.conn_id == NAME).first() is None:
            session.add(Connection.from_json(CONNECTION.read_text(), conn_id=NAME))
            print(f"made the connection {NAME}")


if __name__ == "__main__":
    main()
