#!/usr/bin/env bash
# The tests that compute, as processors without AVX-512 or AVX, and machines with one core, would run them: by
# instruction set (JAX's, and numpy's and numba's with it), each with one core or with two, so that each limit and each
# number of cores is tried. numpy keeps AVX2, as all processors since 2013 have it: without it the last bits of its float32
# sines are others, and with them, in DeepMind's code too, the triangles of points that lie on a side. ISAS="SSE4_2 AVX2 unlimited" CORES="1 2" tries all six; arguments go to pytest.
set -uo pipefail
cd "$(dirname "$0")/.."
folders=(tests/golden tests/graph tests/model tests/train tests/forecast tests/normalization tests/replay
    tests/data tests/sources tests/products tests/emulator tests/deepmind tests/grid tests/cli tests/config
    tests/vocabulary tests/weatherbench tests/report tests/retraining tests/nightly tests/registry tests/test_*.py)
failed=()
for isa in ${ISAS-SSE4_2 AVX2 unlimited}; do
    limits=() usual=1
    case $isa in
        SSE4_2) limits=(XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 NUMBA_CPU_NAME=nehalem OPENBLAS_CORETYPE=Nehalem
            NPY_DISABLE_CPU_FEATURES=X86_V4) ;;
        AVX2) limits=(XLA_FLAGS=--xla_cpu_max_isa=AVX2 NUMBA_CPU_NAME=haswell OPENBLAS_CORETYPE=Haswell) usual=2 ;;
        unlimited) limits=(XLA_FLAGS=) ;;
        *) echo "test_isa: there is no $isa; there are SSE4_2, AVX2, unlimited" >&2; exit 2 ;;
    esac
    for cores in ${CORES-$usual}; do
        echo "== $isa, $cores cores"
        env "${limits[@]}" taskset -c "0-$((cores - 1))" .venv/bin/python -m pytest -n "$cores" --dist loadscope \
            --no-loadscope-reorder "${folders[@]}" "$@" || failed+=("$isa with $cores cores")
    done
done
[ ${#failed[@]} = 0 ] || { echo "test_isa: failed: $(IFS=,; echo "${failed[*]}")" >&2; exit 1; }
