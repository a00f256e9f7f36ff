"""How far apart two results may be that differ only in the order in which their sums were added up.

A processor's vectors, its number of cores and the compiler's choice of tiles decide that order, so that equal programs
on two machines, or two programs for one formula on one machine, agree to rounding and no better.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np


def rounding(summands: int, dtype: Any = np.float32, sums_in_a_row: int = 1) -> float:
    """A bound of the error, relative to the largest value there is.

    A sum of n numbers has an error of at most n eps times the sum of their magnitudes, whatever the order (Higham,
    Accuracy and Stability of Numerical Algorithms, section 4.2); sums that take each other's results add their errors.

    Parameters
    ----------
    summands : of the longest sum
    sums_in_a_row : how many such sums lie one behind the other, as layers of a network do
    """
    return summands * sums_in_a_row * float(jnp.finfo(dtype).eps)


def of_network(latent_size: int, message_steps: int, inputs: int = 0) -> float:
    """The bound for a network's outputs.

    An edge's layer adds up three latent vectors, or the first one the inputs; and between input and output lie three
    layers of the encoder, two of each message step, and three of the decoder.
    """
    return rounding(max(3 * latent_size, inputs), sums_in_a_row=6 + 2 * message_steps)


def assert_equal_to_rounding(found: Any, expected: Any, bound: float, message: str = "") -> None:
    """Two arrays differ nowhere by more than `bound` times the largest magnitude of the second."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * np.abs(expected).max(initial=0), err_msg=message)
