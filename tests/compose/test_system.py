"""The whole system in containers: built, started, used through Airflow's public API, broken, and started again."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.compose.system import AIRFLOW, CLUSTER, PROJECT, System, eventually, has_engine, run

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1500)]
STEPS = ("prepare", "normalize", "train", "forecast", "evaluate", "report", "register")
ROLLOUT = 4
"""Updates of tiny's second stage."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    if not has_engine():
        said = "no Docker engine answers, so docker-compose.yml was neither built nor started"
        if os.environ.get("GRAPHUFS_NO_ENGINE") == "1":
            pytest.skip(f"{said}, as is meant: GRAPHUFS_NO_ENGINE=1")
        pytest.fail(f"{said}; start one (docker info shows it), or say that this is meant: GRAPHUFS_NO_ENGINE=1")
    found = System()
    stand_in = run("docker", "image", "inspect", "postgres:16").returncode != 0
    if stand_in and run("docker", "pull", "postgres:16").returncode != 0:
        made = run("docker", "build", "-t", "postgres:16", "-f", "tests/compose/postgres.Dockerfile", "tests/compose")
        assert made.returncode == 0, made.stderr[-3000:]
    try:
        found.compose("down", "-v", "--remove-orphans")
        found.compose("build")
        yield found
    finally:
        found.compose("down", "-v", "--remove-orphans")
        run("docker", "image", "rm", f"{PROJECT}-airflow", f"{PROJECT}-hpc")
        print("\nseconds:", {name: round(took) for name, took in found.took.items()})


def test_the_images_are_small(system: System) -> None:
    for name, most in (("airflow", 900e6), ("hpc", 2500e6)):
        (found,) = json.loads(run("docker", "image", "inspect", f"{PROJECT}-{name}").stdout)
        print(f"{name}: {found['Size'] / 1e6:.0f} MB")
        assert found["Size"] < most and found["Config"]["User"] == "graphufs"


def test_the_control_plane_has_no_jax(system: System) -> None:
    found = run("docker", "run", "--rm", f"{PROJECT}-airflow", "/opt/venv/bin/python", "-c", "import jax")
    assert "No module named 'jax'" in found.stderr


def test_make_up_says_in_one_line_that_the_port_is_taken(system: System) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("scripts/compose.sh", "up", **system.environment | {"PORT": port})
    said = done.stderr.splitlines()
    assert done.returncode == 1 and f"port {port} of 127.0.0.1 is taken" in said[-1] and len(said) <= 2, said


def test_it_gets_ready_with_all_that_is_needed(system: System) -> None:
    api = system.up()  # how long that took is printed at the end: it depends on the machine
    assert {pool["name"] for pool in api.request("GET", "/pools")["pools"]} >= {"cluster", "graphufs"}
    assert api.request("GET", "/connections/cluster_login")["host"] == "login"
    eventually(lambda: api.paused("training") is False and api.paused("normalization") is False, 300, "DAGs are there")
    assert system.inside("login", "sinfo", "-h", "-N", "-p", "main", "-o", "%N").split() == ["node1", "node2"]


def test_normalization_makes_data_and_statistics_over_ssh(system: System) -> None:
    made = system.api.trigger("normalization", {"experiment": "tiny", "site": "cluster"})
    assert system.api.wait("normalization", made, 600) == "success"
    assert system.inside("login", "bash", "-c", "ls -d /scratch/graphufs/statistics/*").strip()


REACH = """
import socket
for host, port in {places!r}:
    try:
        socket.create_connection((host, port), 3).close()
        print(host, port, "reached")
    except socket.gaierror:
        print(host, port, "unknown")
    except OSError:
        print(host, port, "closed")
"""


def test_a_job_reaches_neither_airflow_s_database_nor_its_api(system: System) -> None:
    def addresses(service: str) -> list[str]:
        networks = system.inspect(service)["NetworkSettings"]["Networks"].values()
        return [network["IPAddress"] for network in networks]

    ports = {"postgres": 5432, "api-server": 8080}
    places = [(place, port) for name, port in ports.items() for place in (name, *addresses(name))]
    code = REACH.format(places=[*places, ("controller", 6817)])
    forbidden = [f"{place} {port} {'unknown' if place in ports else 'closed'}" for place, port in places]
    assert len(places) == 5
    python, out = "/opt/venv/bin/python", "/scratch/reach.txt"
    for name in ("node1", "login"):
        assert system.inside(name, python, "-c", code).splitlines() == [*forbidden, "controller 6817 reached"]
    job = ["sbatch", "--wait", "--partition=main", "--mem=100M", f"--output={out}"]
    system.inside("login", *job, f"--wrap={python} -c {shlex.quote(code)}")
    assert system.inside("login", "cat", out).splitlines() == [*forbidden, "controller 6817 reached"]
    # from the other side: what Airflow's tasks need, and nothing of the cluster but its login node
    seen = REACH.format(places=[*ports.items(), ("login", 2222), ("controller", 6817), ("node1", 6818)])
    answers = [line.split()[2] for line in system.inside("scheduler", python, "-c", seen).splitlines()]
    assert answers == ["reached", "reached", "reached", "unknown", "unknown"]


@pytest.mark.parametrize(
    ("updates", "every"),
    # updates of the first stage: enough for all that is done to the system meanwhile
    [pytest.param(3_000, False, id="two"), pytest.param(10_000, True, marks=pytest.mark.long, id="every-one")],
)
def test_a_training_survives_the_death_of_services_and_a_restart_of_the_whole(
    system: System, updates: int, every: bool
) -> None:
    overrides = ["training.checkpoint_every=500", "training.validate_every=20000"]
    conf = {"experiment": "tiny", "site": "cluster", "updates": updates, "overrides": overrides}
    made = system.api.trigger("training", conf)
    eventually(lambda: system.progress(updates) > 500, 600, "the training has a checkpoint")
    pairs: list[tuple[str, ...]] = [("scheduler", "controller")]
    if every:
        place = system.inside("login", "squeue", "-h", "-t", "R", "-o", "%N").strip()
        other = "node2" if place == "node1" else "node1"
        # One of Airflow's and one of the cluster's at a time; the job's own node comes last.
        pairs = [*zip(AIRFLOW, ("database", "accounting", "controller", "login", other), strict=True), (place,)]
        assert {service for pair in pairs for service in pair} == {*AIRFLOW, *CLUSTER}
    for pair in pairs:
        before = system.progress(updates)
        with ThreadPoolExecutor() as threads:
            list(threads.map(system.kill, pair))
        assert before < updates and system.asked(lambda: system.api.state("training", made)) == "running"
    before = system.progress(updates)
    system.compose("down")
    system.up()
    assert system.api.state("training", made) == "running" and before < updates, "too short a training to show it"
    state = system.api.wait("training", made, 1000)
    tasks = [(task["task_id"], task["state"]) for task in system.api.task_instances("training", made)]
    assert state == "success", tasks
    check_nothing_is_lost_or_doubled(system, made, updates)


def check_nothing_is_lost_or_doubled(system: System, made: str, updates: int) -> None:
    jobs = {step: system.api.xcom("training", made, step, "return_value")["job"] for step in STEPS}
    names = [name.split(".", 1)[1].rsplit(".", 2)[0] for name in slurm_jobs(system)]
    assert {step: names.count(key) for step, key in jobs.items()} == dict.fromkeys(STEPS, 1)
    (run,) = system.runs(updates)
    lines = [json.loads(line) for line in system.inside("login", "cat", f"{run}/metrics.jsonl").splitlines()]
    noted = [line["update"] for line in lines if line["event"] == "update"]
    assert noted == sorted(set(noted)) and noted[-1] == updates + ROLLOUT
    assert set(range(10, updates + 1, 10)) <= set(noted)


def slurm_jobs(system: System) -> list[str]:
    """The names of all jobs of ours that Slurm ever took: another test here submits one of its own."""
    names = system.inside("login", "squeue", "-h", "-t", "all", "-o", "%j").split()
    return [name for name in names if name.startswith("graphufs.")]


def test_the_night_that_the_training_set_off_scores_its_model(system: System) -> None:
    def nights() -> list[dict[str, Any]]:
        runs = system.api.request("GET", "/dags/nightly_evaluation/dagRuns", limit=10)["dag_runs"]
        return [one for one in runs if one["run_type"] == "asset_triggered"]

    eventually(nights, 400, "a night was set off")
    for night in nights():
        assert system.api.wait("nightly_evaluation", night["dag_run_id"], 800) == "success"
        recorded = system.api.xcom("nightly_evaluation", night["dag_run_id"], "record_nightly", "return_value")
        assert recorded["added"]
        system.inside("login", "test", "-s", f"/scratch/graphufs/{recorded['report']}")
