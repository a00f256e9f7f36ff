"""The scored forecasts of the tests of scores."""

from tests.weatherbench.conftest import prepared, scored

__all__ = ["prepared", "scored"]
