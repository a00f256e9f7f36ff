"""Packaging: the locks agree, carry hashes and no addresses, and the conda environments are the locks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[1]
LOCKS = ("job-cpu", "job-cuda", "airflow", "dev", "bootstrap")


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
