"""`graphufs score --report`: one page on any stores, with a part about members where there are any."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from graphufs.cli.main import app
from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.report.ensemble.plumes import nearest, place
from tests.cli.test_score import stores
from tests.cli.test_score_ensembles import MEMBERS, ensemble, read, run, with_quantiles

CHANNELS = 3
"""Two metre temperature, and temperature at two levels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of an ensemble with their page, and plumes at two points."""
    folder = tmp_path_factory.mktemp("ensemble")
    made = stores("no poles")
    made["forecast"] = ensemble(made)
    made["climatology"] = with_quantiles(made["climatology"])
    report = ("--report", str(folder / "page.html"), "--points", "52.5,13.4", "--points=-33.9,-70.7")
    run(folder, made, "--regions", "global", "--baselines", "climatology", *report)
    return folder


def figures_of(page: str) -> list[str]:
    return re.findall(r'<svg class="figure".*?</svg>', page, re.DOTALL)


def test_the_page_has_all_that_is_known_of_members_and_loads_nothing(folder: Path) -> None:
    page = (folder / "page.html").read_text()
    assert not re.search(r"https?:|@import|<script|<link|<iframe|\bsrc=", page)
    for words in ("RMSE of", "CRPS of", "Spread over error of", "Rank histogram of", "Reliability diagram of",
                  "Zonal spectra of the members", "Maps of the spread", "Maps of the bias"):  # fmt: skip
        assert page.count(f'aria-label="{words}') == CHANNELS, words
    assert page.count("of each member at") == 2 * CHANNELS
    assert "56.25° N 0° E" in page and "33.75° S 72° W" in page
    for figure in figures_of(page):
        ElementTree.fromstring(figure)
    defined = set(re.findall(r"--([a-z-]+):", page))
    assert set(re.findall(r"var\(--([a-z-]+)\)", page)) <= defined and "#0102" not in page


def test_numbers_drawn_are_those_of_the_files(folder: Path) -> None:
    """The heights of a rank histogram's bars, up to the figure's scale, are those of the file."""
    page = (folder / "page.html").read_text()
    figure = next(figure for figure in figures_of(page) if "Rank histogram of Temperature at 2 m" in figure)
    bars = re.findall(r'<path d="(M[^"]*)"[^>]*clip-path[^>]*stroke: var\(--emulator\)', figure)
    histogram = read(folder / "out" / "histograms.nc")["rank_histogram.2m_temperature"].sel(region="global")
    y = np.array([float(number) for number in re.findall(r"[ML] [\d.]+ ([\d.]+)", bars[-1])])
    share = histogram.isel(lead_time=1).values  # of 1 d, the line drawn last
    assert share.shape == (MEMBERS + 1,)
    height = y[0] - y[1:-1:2]
    np.testing.assert_allclose(height / height.sum(), share, atol=1e-4)


def test_single_forecasts_have_a_page_without_members(tmp_path: Path) -> None:
    made = stores("no poles")
    run(tmp_path, made, "--regions", "global", "--report", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Ensemble</h2>" not in page and page.count('aria-label="Zonal spectra') == CHANNELS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--points", "52,13"], "say where to write it with --report"),
        (["--report", "page.html", "--points", "95,13"], "cannot read the point 95,13"),
        (["--report", "page.html", "--points", "52;13"], "cannot read the point 52;13"),
    ],
)
def test_points_that_cannot_be_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        app(["score", "a", "b", "c", "out", *options], result_action="return_value")


def test_the_nearest_point_is_found_across_the_date_line_and_none_outside_the_grid() -> None:
    grid = Grid(np.array([-60.0, 0.0, 60.0]), np.arange(8) * 45.0)
    assert nearest(grid, (52.5, -10.0)) == (2, 0) and nearest(grid, (-50, 350)) == (0, 0)
    assert place((-33.9, 289.3)) == "33.9° S 70.7° W"
    region = Grid(np.array([40.0, 45.0, 50.0]), np.array([0.0, 5.0, 10.0]))
    with pytest.raises(UserError, match="lies outside the grid"):
        nearest(region, (10.0, 5.0))
