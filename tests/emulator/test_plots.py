"""The two pictures: a map of a forecast, and scores by lead time."""

from __future__ import annotations

import io

import numpy as np
import pytest
import xarray as xr

from graphufs.emulator.plots import plot_map, plot_scores
from graphufs.errors import UserError
from tests.products.test_convert import forecast


def scores() -> xr.Dataset:
    rng = np.random.default_rng(5)
    return xr.Dataset(
        {"temperature": (("forecast", "metric", "region", "lead_time", "level"), rng.random((2, 2, 1, 3, 2)))},
        coords={
            "forecast": ["emulator", "persistence"],
            "metric": ["rmse", "acc"],
            "region": ["global"],
            "lead_time": np.arange(1, 4) * np.timedelta64(24, "h").astype("timedelta64[ns]"),
            "level": [500, 1000],
        },
    )


def test_a_map_shows_the_field_that_is_asked_for():
    made = forecast()
    figure = plot_map(made, "temperature", level=500, hours=12, initial_time="1995-01-01T18")
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "Temperature, 500 hPa, 12 h after 1995-01-01 18 UTC"
    drawn = axes.collections[0].get_array()
    np.testing.assert_array_equal(np.ravel(drawn), made["temperature"][1, 1, 0].values.ravel())
    figure.savefig(file := io.BytesIO(), format="png")
    assert file.tell() > 1000


def test_scores_are_a_line_for_each_forecast():
    made = scores()
    axes = plot_scores(made, "temperature", level=1000).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Emulator", "Persistence"]
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), made.temperature[1, 0, 0, :, 1])


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot_map(forecast(), "temprature", 500), "did you mean temperature"),
        (lambda: plot_map(forecast(), "temperature"), "name a level of temperature .none given.: 500, 1000"),
        (lambda: plot_map(forecast(), "surface_pressure", hours=7), "no forecast from 1995-01-01T06 for 7 h"),
        (lambda: plot_scores(scores(), "temperature", 500, "rmes"), "no metric rmes .did you mean rmse"),
    ],
)
def test_what_is_not_there_is_named(draw, words):
    with pytest.raises(UserError, match=words):
        draw()
