"""Long rollouts that are as they should be, and such that are not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from graphufs.config.retraining import Stability
from graphufs.retraining.long_rollout import instabilities

LATITUDE, LONGITUDE = np.linspace(-70, 70, 6), np.arange(0, 360, 22.5)

LAST = np.array([0.0, 0, 0, 0, 1])[:, None, None, None]
"""1 at the last of five leads."""


def smooth(values: np.ndarray) -> np.ndarray:
    return values.mean(-1, keepdims=True)


def fields(values: np.ndarray) -> xr.Dataset:
    """A rollout of one variable on two levels, [lead, level, lat, lon]."""
    dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
    coordinates = {"latitude": LATITUDE, "longitude": LONGITUDE, "level": [500, 1000]}
    return xr.Dataset({"temperature": (dims, values[None])}, coordinates)


def climatology() -> xr.Dataset:
    """From 240 to 280 at 500, from 260 to 300 at 1000."""
    values = np.stack([np.linspace(low, low + 40, 96).reshape(6, 16) for low in (240.0, 260.0)])
    return xr.Dataset({"temperature": (("level", "latitude", "longitude"), values)})


def weather(leads: int = 5) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(leads, 2, 6, 16))
    return np.array([260.0, 280.0])[:, None, None] + 5 * noise


def test_a_rollout_that_stays_what_it_was_is_stable() -> None:
    assert instabilities(fields(weather()), climatology(), Stability()) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda x: np.where(np.arange(5)[:, None, None, None] == 3, np.nan, x), "is not finite"),
        (lambda x: x + np.array([0.0, 150.0])[:, None, None], "leaves the climatology's range"),  # one level of two
        (lambda x: x - np.array([150.0, 0.0])[:, None, None], "leaves the climatology's range"),
        (lambda x: smooth(x) + (x - smooth(x)) * (1 - 0.9 * LAST), "fade"),
        (lambda x: smooth(x) + (x - smooth(x)) * (1 + 4 * LAST), "grow"),
    ],
)
def test_what_is_wrong_is_named(damage, words: str) -> None:
    found = instabilities(fields(damage(weather())), climatology(), Stability())
    assert any("temperature" in one and words in one for one in found), found
