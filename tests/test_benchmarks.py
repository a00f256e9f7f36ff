"""The benchmarks' plain network computes what the package's does, or their ratios would mean nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_the_plain_network_computes_the_same(precision):
    import cases
    import model

    case = cases.CASES["a"]
    model.check_equal(case, case.network(), case.sample(1), precision)
