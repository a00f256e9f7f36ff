#!/usr/bin/env bash
# Fetch what scripts/gpu_check.sh needs on a machine that reaches no package index: wheels for Python 3.12 on x86-64
# Linux, of the versions and hashes of requirements/job-cuda.lock, into gpu-wheels/. That machine brings its own Python
# 3.12 with JAX for CUDA, equinox, optax, xarray, numba, scipy, psutil, PyYAML, rich and pytest; these are not in it.
set -euo pipefail
cd "$(dirname "$0")/.."
packages="pydantic pydantic-core annotated-types typing-inspection zarr numcodecs msgspec donfig google-crc32c fsspec trimesh rtree"
[ -x .tools/bin/uv ] || scripts/setup.sh job-cpu
new=$(mktemp -d ./.gpu-wheels.XXXXXX)
trap 'rm -rf "$new"' EXIT
# pip judges conditions such as `python_full_version >= '3.12'` by the Python that runs it, whatever it downloads for.
.tools/bin/python - $packages >"$new/wanted.txt" <<'PYTHON'
import re
import sys
from pathlib import Path

from pip._vendor.packaging.markers import Marker

target = {"python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux", "platform_machine": "x86_64"}
blocks = re.findall(r"^\S.*(?:\n[ \t]+.*)*", Path("requirements/job-cuda.lock").read_text(), re.MULTILINE)
for name in sys.argv[1:]:
    found = []
    for block in blocks:
        requirement, _, hashes = block.partition("\\\n")
        what, _, marker = requirement.partition(";")
        if what.partition("==")[0].strip() == name and (not marker.strip() or Marker(marker.strip()).evaluate(target)):
            found.append(f"{what.strip()} \\\n{hashes}")
    if len(found) != 1:
        sys.exit(f"gpu_wheels: requirements/job-cuda.lock names {len(found)} versions of {name} for Python 3.12, not one")
    print(found[0])
PYTHON
platforms=()
for glibc in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
.tools/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.12 --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 \
    --dest "$new/wheels" -r "$new/wanted.txt"
rm -rf gpu-wheels
mv "$new/wheels" gpu-wheels
echo "gpu_wheels: $(ls gpu-wheels | wc -l) wheels, $(du -sm gpu-wheels | cut -f1) MiB, in gpu-wheels/"
