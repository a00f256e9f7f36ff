"""Sets of ensembles unlike set A, made by plain numpy: the tests of golden ensembles take them, and scores agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import test_weatherbench2_ensembles as golden
from tests.golden.plain_ensembles import Case, make_set
from tests.golden.weatherbench2_sets import Ensembles

CASES = {
    "four members": Case(4),
    "eight members, some missing": Case(8, missing=True),
    "a single member": Case(1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_sets_of_any_grid_order_and_number_of_members_score_by_the_formulas(case: Case, tmp_path: Path) -> None:
    make_set(tmp_path, "B", case)
    ensembles = Ensembles(tmp_path, "B")
    golden.test_scores_of_members_are_the_official_ones(ensembles)
    golden.test_scores_at_thresholds_are_the_official_ones(ensembles, "binary_quantile", "quantile")
    golden.test_scores_at_thresholds_are_the_official_ones(ensembles, "binary_gaussian_quantile", "gaussian_quantile")
    golden.test_ranked_probability_and_gaussian_scores_are_the_official_ones(ensembles, "rps", "ens")
    golden.test_maps_are_the_official_ones(ensembles)
    golden.test_rank_histograms_are_the_official_ones(ensembles, "rank_histogram_noties", None)
    if case.members > 1:
        golden.test_central_reliability_is_the_official_one(ensembles)
