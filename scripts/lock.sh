#!/usr/bin/env bash
# Compile requirements/*.lock from pyproject.toml: with hashes, for every platform, without registry addresses.
# `scripts/lock.sh --upgrade` moves to the newest versions that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .tools/bin/uv ] || scripts/setup.sh job-cpu
compile() {
    .tools/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links --python-version 3.11 "$@" >/dev/null
}
compile "${@}" --extra job --extra tracking pyproject.toml -o requirements/job-cpu.lock
# The sides agree on every package they share.
same=(-c requirements/job-cpu.lock)
compile "${@}" "${same[@]}" --extra job --extra tracking --extra cuda pyproject.toml -o requirements/job-cuda.lock
compile "${@}" "${same[@]}" --extra job --extra tracking --extra grib --extra dev --extra docs pyproject.toml \
    -o requirements/dev.lock
# Its PyTorch and netCDF4 are other ones than those of the tests.
compile "${@}" --extra job --extra earth2studio pyproject.toml -o requirements/earth2studio.lock
compile "${@}" --extra airflow pyproject.toml -o requirements/airflow.lock
compile "${@}" -c requirements/airflow.lock --extra airflow-dev pyproject.toml -o requirements/airflow-dev.lock
