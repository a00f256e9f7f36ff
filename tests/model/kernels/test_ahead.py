"""The kernels compile for an H100 where there is none. Needs CUDA's part of jaxlib: `make setup-cuda`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from graphufs.plan.child import REPOSITORY, python_with_cuda

PYTHON = python_with_cuda()


def compiled(folder: Path, edges: str, precision: str, width: int) -> list[dict[str, Any]]:
    command = [PYTHON, REPOSITORY / "benchmarks" / "kernels.py", "--json", "--edges", edges, "--precision", precision]
    command += ["--latent-size", str(width)]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.skipif(PYTHON is None, reason="CUDA's part of jaxlib is not here; `make setup-cuda` makes .venv-cuda")
@pytest.mark.parametrize("width", [256, 512])
@pytest.mark.parametrize(
    ("edges", "kernels"),
    [
        ("mesh2grid", {"sums_at_points", "gradients_at_points", "gradients_at_nodes", "gradients_of_weights"}),
        ("grid2mesh", {"sums_at_nodes", "gradients_at_points", "gradients_of_weights"}),
        ("points", {"layers_of_rows", "gradients_of_rows", "gradients_of_layers"}),
        ("channels", {"layers_of_rows", "gradients_of_rows", "gradients_of_layers"}),
    ],
)
def test_the_kernels_compile_for_an_h100_and_write_no_array_over_edges_and_samples(
    edges: str, kernels: set[str], width: int, tmp_path: Path
) -> None:
    found = compiled(tmp_path, edges, "bfloat16", width)
    assert {one["kernel"] for one in found} == kernels
    for one in found:
        assert 0 < one["registers"] <= 255 and one["flop"] > 0 and one["again"] > 0
        # nine arrays over points and samples at most, or three and terms without samples
        assert one["bytes"] < (9.1 if edges in ("points", "channels") else 3.6) * 65_160 * 16 * width * 2
