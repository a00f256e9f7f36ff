"""The stores of the tests of the source."""

from tests.replay.conftest import daily, flawed, ocean, store

__all__ = ["daily", "flawed", "ocean", "store"]
