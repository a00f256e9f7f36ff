#!/usr/bin/env bash
# Make .venv from a lock file: `scripts/setup.sh job-cpu` or `scripts/setup.sh dev`. `scripts/setup.sh airflow` makes the
# control plane's environment, which is never mixed with that one: .venv-airflow; `airflow-dev` adds pytest to it.
# `job-cuda` makes .venv-cuda, the job side with CUDA's libraries: it compiles for GPUs on any machine. `earth2studio`
# makes .venv-earth2studio, the job side with Earth2Studio and its PyTorch, for the tests of graphufs.integrations.
# Needs Python 3.11 or newer (another than python3: PYTHON=/path/to/python scripts/setup.sh ...). uv, pinned by hash,
# is installed into .tools and does the rest. Nothing outside this folder changes, except that on a Debian machine where
# you are root and Python's venv module is missing, apt installs it.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=requirements/${1:?which lock: job-cpu, job-cuda, dev, airflow, airflow-dev or earth2studio}.lock
[ -f "$lock" ] || { echo "setup: there is no $lock" >&2; exit 2; }
venv=.venv
[[ "$1" != airflow* ]] || venv=.venv-airflow
[[ "$1" != job-cuda ]] || venv=.venv-cuda
[[ "$1" != earth2studio ]] || venv=.venv-earth2studio

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python=
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
    if usable "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing Python through apt"
    apt-get update -qq && apt-get install -y -qq python3 python3-venv
    if usable python3; then python=python3; fi
fi
if [ -z "$python" ]; then
    echo "setup: Python 3.11 or newer is needed and was not found; install it, or name one: make ... PYTHON=/path/to/python" >&2
    exit 2
fi

if ! [ -x .tools/bin/uv ] || [ requirements/bootstrap.lock -nt .tools/bin/uv ]; then
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq python3-venv
        else
            echo "setup: this Python has no venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2
            exit 2
        fi
    fi
    echo "setup: fetching uv"
    "$python" -m venv --clear .tools
    .tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
    touch .tools/bin/uv
fi

[ -x $venv/bin/python ] && usable $venv/bin/python || .tools/bin/uv venv --quiet --clear --python "$python" $venv
echo "setup: installing $lock into $venv"
# Compiled once here: hundreds of short processes (jobs, Airflow's tasks, tests) otherwise do it again and again wherever
# bytecode is not written (PYTHONDONTWRITEBYTECODE), which makes importing xarray five times as dear. `make demo` and
# `make test` have it written (LAZY_BYTECODE) as modules are first used: all of it takes 40 seconds of a processor.
compile=--compile-bytecode
[ -z "${LAZY_BYTECODE:-}" ] || compile=
.tools/bin/uv pip install --quiet $compile --python $venv/bin/python --require-hashes -r "$lock"
.tools/bin/uv pip install --quiet --python $venv/bin/python --no-deps -e .
