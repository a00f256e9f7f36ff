"""What docker-compose.yml says, as the client without any engine reads it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.compose.system import ONCE, TOP, has_client, run


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    if not has_client():
        pytest.skip("docker and its compose plugin are not installed")
    done = run("docker", "compose", "--env-file", ".env.example", "config", "--format", "json", DOCKER_HOST="unix:///x")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def test_ports_are_open_to_this_machine_alone(services):
    ports = [port for its in services.values() for port in its.get("ports", [])]
    assert [(port["host_ip"], port["published"]) for port in ports] == [("127.0.0.1", "8080")]


def test_each_service_is_watched_limited_and_started_again(services):
    for name, its in services.items():
        assert its["deploy"]["resources"]["limits"]["memory"] and its["logging"]["options"]["max-size"] == "10m", name
        assert name in ONCE or ("healthcheck" in its and its["restart"] == "unless-stopped"), name
        waits = {its["depends_on"][other]["condition"] for other in its.get("depends_on", {})}
        assert waits <= {"service_healthy", "service_completed_successfully"} and (waits or name == "setup"), name
        assert not its.get("privileged") and (name == "postgres" or its["cap_drop"] == ["ALL"]), name


def test_the_control_plane_sees_nothing_of_the_cluster_s(services):
    folders = {
        name: {mount["source"] for mount in its["volumes"] if mount["type"] == "volume"}
        for name, its in services.items()
        if name != "setup"
    }
    cluster = {"cluster-secrets", "scratch", "slurm-database", "slurm-state"}
    for name, seen in folders.items():
        assert not seen & cluster or not seen - cluster, name


def test_jobs_share_no_network_with_airflow_s_database_or_api(services):
    networks = {name: set(its["networks"]) for name, its in services.items()}
    cluster = {"database", "accounting", "controller", "node1", "node2", "login"}
    assert networks["setup"] == {"setup"} and networks["postgres"] == {"airflow-database"}
    assert {name for name in networks if "cluster" in networks[name]} == cluster
    assert {name for name in networks if "login" in networks[name]} == {"login", "scheduler", "triggerer"}
    for name in cluster:  # where jobs run, and from where they come
        assert networks[name] == ({"cluster", "login"} if name == "login" else {"cluster"}), name
    for name in ("migrate", "api-server", "scheduler", "dag-processor", "triggerer"):
        assert networks[name] >= {"airflow", "airflow-database"} and "cluster" not in networks[name], name


def test_every_setting_is_in_the_example_with_its_default():
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", (TOP / "docker-compose.yml").read_text()))
    told = dict(re.findall(r"^([A-Z_]+)=(.*)$", (TOP / ".env.example").read_text(), re.M))
    assert told == used


def test_make_says_in_one_line_that_no_engine_answers():
    if not has_client():
        pytest.skip("docker and its compose plugin are not installed")
    done = run("scripts/compose.sh", "up", DOCKER_HOST="unix:///nonexistent")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "no Docker engine answers" in done.stderr


def test_make_says_in_one_line_that_there_is_no_docker(tmp_path: Path):
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = run("scripts/compose.sh", "up", PATH=str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "there is no docker command" in done.stderr
