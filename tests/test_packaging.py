"""Packaging: locks agree, carry hashes and no addresses; the conda environments are the locks; the wheel is whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[1]
UV = TOP / ".tools" / "bin" / "uv"
LOCKS = ("job-cpu", "job-cuda", "airflow", "airflow-dev", "dev", "bootstrap")


def pins(name: str) -> dict[str, set[str]]:
    """Pinned versions by package; several where they differ by Python version."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text(name), re.M):
        found.setdefault(package.lower(), set()).add(version)
    return found


def text(name: str) -> str:
    return (TOP / "requirements" / f"{name}.lock").read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_package_with_hashes_and_names_no_address(name):
    entries = re.split(r"\n(?=\S)", text(name).strip())
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[^\]]*\])?==", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links", text(name))


def test_one_jax_on_every_python_and_device():
    versions = [pins(name)[package] for name in ("job-cpu", "job-cuda", "dev") for package in ("jax", "jaxlib")]
    assert all(version == versions[0] and len(version) == 1 for version in versions)


def test_the_sides_agree_on_the_packages_they_share():
    cpu = pins("job-cpu")
    for name in ("job-cuda", "dev"):
        assert {package: pins(name)[package] for package in cpu} == cpu
    airflow, tools = pins("airflow"), pins("airflow-dev")  # installed into one environment, one after the other
    assert all(airflow.get(package, versions) == versions for package, versions in tools.items())


def test_a_compute_node_needs_no_airflow_and_an_airflow_worker_no_jax():
    assert not {"apache-airflow", "apache-airflow-core"} & set(pins("job-cpu"))
    assert not {"jax", "jaxlib", "xarray", "dinosaur"} & set(pins("airflow"))
    assert pins("airflow")["apache-airflow"] == {"3.3.2"}


def test_the_unrelated_graphcast_package_is_never_installed():
    assert not any("graphcast" in pins(name) for name in LOCKS)


def test_the_locks_hold_what_pyproject_asks_for():
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    needs = {
        "job-cpu": ["job", "tracking"],
        "job-cuda": ["job", "tracking", "cuda"],
        "airflow": ["airflow"],
        "airflow-dev": ["airflow-dev"],
        "dev": ["job", "tracking", "dev"],
    }
    for name, extras in needs.items():
        asked = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
        names = {re.match(r"[A-Za-z0-9._-]+", line).group().lower().replace("_", "-") for line in asked}
        assert names <= set(pins(name)), names - set(pins(name))


@pytest.mark.parametrize(("name", "lock"), [("cpu", "job-cpu"), ("gpu", "job-cuda"), ("airflow", "airflow")])
def test_the_conda_environments_install_the_locks(name, lock):
    path = TOP / "conda" / f"{name}.yaml"
    environment = yaml.safe_load(path.read_text())
    pip = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pip == [f"-r ../requirements/{lock}.lock"]
    assert (path.parent / pip[0].removeprefix("-r ")).resolve() == TOP / "requirements" / f"{lock}.lock"
    python = next(part for part in environment["dependencies"] if str(part).startswith("python="))
    minor = int(python.removeprefix("python=3."))
    wanted = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["requires-python"]
    assert minor >= int(wanted.removeprefix(">=3."))
    # the official codes are offered as comments, each pinned to a tag or commit, where steps run
    optional = re.findall(r'#\s+pip install "(\S+) @ git\+https://github.com/\S+?@(\S+)"', path.read_text())
    if name == "airflow":
        assert not optional
        return
    assert {package for package, _ in optional} == {"graphcast", "weatherbench2"}
    assert dict(optional)["graphcast"] == "v0.2" and re.fullmatch("[0-9a-f]{7,40}", dict(optional)["weatherbench2"])


def run(*command, cwd, **surroundings):
    """Run a command away from the checkout and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=environment | surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built of a copy: a build leaves files behind."""
    if not UV.exists():
        pytest.skip("uv is missing; `make setup-dev` installs it into .tools")
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("graphufs", "jobs", "experiments", "dags", "devstack"):
        shutil.copytree(TOP / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    (copy / "tests" / "__init__.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, copy)
    run(UV, "build", "--quiet", "--wheel", "--out-dir", copy / "dist", cwd=copy)
    (built,) = (copy / "dist").glob("graphufs-*.whl")
    return built


def test_the_wheel_has_the_experiments_and_all_data_and_nothing_but_the_two_packages(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"graphufs", "jobs"}
    for folder, shipped in (("experiments", "graphufs/experiments"), ("jobs/sites", "jobs/sites")):
        assert {f"{shipped}/{path.name}" for path in (TOP / folder).glob("*.yaml")} <= names
    kept = {
        path.relative_to(TOP).as_posix()
        for package in ("graphufs", "jobs")
        for path in (TOP / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "graphufs/py.typed" in kept
    assert kept - names == set()


@pytest.mark.timeout(1800)  # packages are copied and programs compiled
@pytest.mark.long
def test_the_wheel_alone_runs_a_shipped_experiment_and_jobs(wheel, tmp_path):
    python, lock = tmp_path / "venv" / "bin" / "python", TOP / "requirements" / "job-cpu.lock"
    run(UV, "venv", "--quiet", tmp_path / "venv", cwd=tmp_path)
    run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock, cwd=tmp_path)
    run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel, cwd=tmp_path)
    root = tmp_path / "root"
    run(python.with_name("graphufs"), "run", "tiny", "--root", root, cwd=tmp_path)
    assert list(root.glob("runs/tiny/*/reports/*.html"))
    told = run(python.with_name("graphufs-jobs"), "run", "tiny", "--root", root, "--wait", "--json", cwd=tmp_path)
    jobs = json.loads(told)["jobs"]
    assert jobs and all(job["result"]["result"]["status"] == "unchanged" for job in jobs)
