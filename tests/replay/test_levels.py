from __future__ import annotations

import numpy as np
import pytest

from graphufs.errors import UserError
from graphufs.replay.levels import match_levels
from tests.support.lookalike import hybrid_levels

WANTED = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
INDICES = [34, 43, 49, 54, 58, 62, 69, 75, 81, 87, 99, 108, 126]  # the native layers nearest to WANTED in `pfull`


def spellings() -> dict[str, np.ndarray]:
    pfull = hybrid_levels()[2]
    return {"float32": pfull.astype(np.float32), "float64": pfull, "rounded": np.round(pfull, 4)}


@pytest.mark.parametrize("spelling", spellings())
def test_wanted_pressures_find_the_published_native_levels(spelling: str) -> None:
    assert match_levels(spellings()[spelling], WANTED).tolist() == INDICES


@pytest.mark.parametrize("spelling", spellings())
@pytest.mark.parametrize("asked", spellings())
def test_every_native_level_matches_exactly_however_it_is_written(spelling: str, asked: str) -> None:
    wanted = [float(value) for value in spellings()[asked]]
    assert match_levels(spellings()[spelling], wanted, "exact").tolist() == list(range(127))


def test_exact_refuses_a_level_the_store_lacks_and_names_the_closest_and_all() -> None:
    with pytest.raises(UserError, match=r"no level equal to 500; the closest is 505\.652.* It has 0\.01278.*998\.78"):
        match_levels(hybrid_levels()[2], (500,), "exact")


def test_nearest_refuses_a_level_more_than_a_tenth_away() -> None:
    with pytest.raises(UserError, match="within a tenth of 1200"):
        match_levels(hybrid_levels()[2], (1200,))


def test_two_wanted_levels_that_mean_one_native_level_are_refused() -> None:
    with pytest.raises(UserError, match=r"500, 505 all mean the level 505\.65"):
        match_levels(hybrid_levels()[2], (500, 505))


def test_levels_come_in_the_order_they_are_wanted() -> None:
    assert match_levels(hybrid_levels()[2], (1000, 100)).tolist() == [126, 43]
