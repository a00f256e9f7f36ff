"""What is done to each number of many arrays by kernels, interpreted, is what is done to each array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.model.kernels import each_number
from graphufs.model.kernels.each_number import change_each, sum_of_squares

SHAPES = [(3,), (70, 30), (), (each_number.BLOCK,), (1, 5)]
"""Shorter than a block, several blocks and a rest, one number, just a block."""


def arrays(count: int) -> list[list[jax.Array]]:
    """That many arrays of each shape."""
    random = np.random.default_rng(0)
    return [[jnp.asarray(random.normal(size=shape), jnp.float32) for _ in range(count)] for shape in SHAPES]


@pytest.mark.parametrize("most", [each_number.MOST_ARRAYS, 10], ids=["one-call", "several-calls"])
def test_each_array_is_changed_by_its_own_and_by_scalars(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each_number, "MOST_ARRAYS", most)
    scalars = {"factor": jnp.float32(3), "count": jnp.int32(2)}
    places = arrays(3)

    found = change_each(
        lambda scalars, numbers: [numbers[0] + scalars["factor"] * numbers[2], numbers[1] ** 2 / scalars["count"]],
        places,
        scalars,
        2,
        interpret=True,
    )

    for (first, second), (one, two, three) in zip(found, places, strict=True):
        np.testing.assert_allclose(first, one + 3 * three, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(second, two**2 / 2, rtol=1e-5)


@pytest.mark.parametrize("most", [each_number.MOST_ARRAYS, 2], ids=["one-call", "several-calls"])
def test_squares_of_all_arrays_are_added_up(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each_number, "MOST_ARRAYS", most)
    given = [array for (array,) in arrays(1)]

    found = sum_of_squares(given, interpret=True)

    np.testing.assert_allclose(found, sum(float((array**2).sum()) for array in given), rtol=1e-5)
