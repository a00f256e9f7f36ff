#!/usr/bin/env bash
# Check and time the network on the card of this machine, in six minutes and without a package index: see
# benchmarks/gpu_check.py, whose options it takes. `make gpu-wheels` first, elsewhere; gpu-wheels/ comes along.
# On CPUs, as a rehearsal: PYTHON=/path/to/python3.12 scripts/gpu_check.sh --small --out FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! compgen -G 'gpu-wheels/*.whl' >/dev/null; then
    echo "gpu_check: there are no wheels in gpu-wheels/; run \`make gpu-wheels\` where a package index can be reached" >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))'; then
    echo "gpu_check: the wheels are for Python 3.12, and $python is $("$python" --version); name one: PYTHON=..." >&2
    exit 2
fi
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --no-cache-dir \
    --target "$site" gpu-wheels/*.whl
export PYTHONPATH="$site:$PWD" PYTHONDONTWRITEBYTECODE=1
# A second run on the same machine, after something was mended, compiles what changed.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-${TMPDIR:-/tmp}/graphufs-gpu-check-programs}"
"$python" benchmarks/gpu_check.py "$@"
