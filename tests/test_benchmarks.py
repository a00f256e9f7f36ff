"""The benchmarks' plain network computes what the package's does, or their ratios would mean nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_the_plain_network_computes_the_same(precision):
    import cases
    import model

    case = cases.CASES["a"]
    model.check_equal(case, case.network(), case.sample(1), precision)


def test_parts_that_fail_or_find_no_time_on_a_card_are_named_and_the_others_kept(monkeypatch):
    import gpu_check

    def part(name, code):
        return gpu_check.Part(name, [sys.executable, "-S", "-c", code], {"PART": name})

    found = {}
    report = "import os; print('loading'); print('{\"part\": \"' + os.environ['PART'] + '\"}')"
    wanted = [
        part("one", report),
        part("broken", "raise SystemExit('no such card')"),
        part("silent", ""),
        part("two", report),
    ]
    wrong = gpu_check.run_parts(wanted, time.monotonic() + 300, found.__setitem__)
    assert found == {"one": {"part": "one"}, "two": {"part": "two"}}
    assert list(wrong) == ["broken", "silent"] and "no such card" in wrong["broken"]
    found.clear()
    monkeypatch.setattr(gpu_check, "LEAST", 1.0)
    limit = time.monotonic() + 3
    wrong = gpu_check.run_parts(
        [part("slow", "import time; time.sleep(300)"), part("two", report)], limit, found.__setitem__
    )
    assert not found and "not done" in wrong["slow"] and "left out" in wrong["two"]


def test_a_check_on_a_card_without_wheels_or_python_says_what_to_do(tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    script = Path(__file__).parents[1] / "scripts" / "gpu_check.sh"
    (folder / script.name).write_bytes(script.read_bytes())
    (folder / script.name).chmod(0o755)
    ended = subprocess.run([folder / script.name, "--small"], capture_output=True, text=True)
    assert ended.returncode == 2 and "make gpu-wheels" in ended.stderr
    (tmp_path / "gpu-wheels").mkdir()
    (tmp_path / "gpu-wheels" / "some.whl").touch()
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.1 || exit 1\n')
    other.chmod(0o755)
    ended = subprocess.run(
        [folder / script.name], capture_output=True, text=True, env={"PYTHON": str(other), "PATH": "/usr/bin:/bin"}
    )
    assert ended.returncode == 2 and "Python 3.12" in ended.stderr and "3.10.1" in ended.stderr


WITHOUT_WHEELS = """
import re, sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions, requires, PackageNotFoundError
brought, wheels = set(sys.argv[1].split()), set(sys.argv[2].split())
waiting = list(brought)
while waiting:  # the machine has what its packages need, too
    try:
        lines = requires(waiting.pop()) or ()
    except PackageNotFoundError:
        continue
    needs = {re.match(r"[\\w.-]+", line)[0].lower().replace("_", "-") for line in lines if "extra ==" not in line}
    waiting += needs - brought
    brought |= needs
of = packages_distributions()
class Machine(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        names = {one.lower().replace("_", "-") for one in of.get(name, ())}
        missing = names and not names & (brought | wheels | {"graphufs"})
        return None if missing else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Machine
sys.path[:0] = sys.argv[3:]
import gpu
from graphufs.graph.icosphere import icosahedron
from graphufs.graph.nearest_face import nearest_faces
assert nearest_faces(icosahedron().vertices[:1], icosahedron()).shape == (1,)
"""


def test_the_wheels_for_a_machine_with_a_card_are_all_that_the_check_imports():
    top = Path(__file__).parents[1]
    script = (top / "scripts" / "gpu_wheels.sh").read_text()
    wheels = script.partition('packages="')[2].partition('"')[0]
    brought = "jax jaxlib equinox optax xarray numba scipy psutil pyyaml rich pytest pip"
    command = [sys.executable, "-c", WITHOUT_WHEELS, brought]
    subprocess.run([*command, wheels, str(top / "benchmarks"), str(top)], check=True)
    fewer = wheels.replace("rtree", "")
    ended = subprocess.run([*command, fewer, str(top / "benchmarks"), str(top)], capture_output=True, text=True)
    assert "No module named 'rtree'" in ended.stderr
