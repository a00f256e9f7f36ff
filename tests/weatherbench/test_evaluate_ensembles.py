"""The step `evaluate` on an experiment whose forecasts have members, and nights of such added up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.nightly.record import merge
from graphufs.steps import never_stop, no_progress, run_step
from graphufs.storage.paths import Paths
from graphufs.weatherbench import evaluate
from graphufs.weatherbench.compare.comparison import Side, compare
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.diagnostics import Diagnostics
from graphufs.weatherbench.scoring.histograms import Histograms
from tests.weatherbench.conftest import Made


@pytest.fixture(scope="module")
def made(prepared: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    experiment, source = prepared
    root = tmp_path_factory.mktemp("ensemble") / "root"
    shutil.copytree(source, root)
    paths = Paths(experiment, root)
    single = xr.open_zarr(paths.forecasts).load().drop_encoding()
    members = xr.concat([single + shift * 0.5 for shift in (-1, 0, 1)], "number", combine_attrs="override")
    for path in (paths.forecasts, paths.scores):
        shutil.rmtree(path, ignore_errors=True)
    for name in members.data_vars:
        members[name].attrs.update(single[name].attrs)
    members.astype(np.float32).to_zarr(paths.forecasts, zarr_format=2, consolidated=True)
    evaluate.run(experiment, root, progress=no_progress, should_stop=never_stop)
    return experiment, root


@pytest.fixture(scope="module")
def scores(made: Made) -> Scores:
    experiment, root = made
    return Scores.open(Paths(experiment, root).scores)


def test_scores_of_an_experiment_have_those_of_its_members(scores: Scores) -> None:
    assert {"rmse", "crps", "spread_skill", "energy_score"} <= set(scores.metrics)
    assert scores.dataset.attrs["members"] == 3
    assert scores.histograms is not None
    ranks = Histograms.restore(scores.histograms).ranks("emulator")
    np.testing.assert_allclose(ranks.sum(axis=-1), 1)
    channel = scores.channels[0]
    variance = scores.values("ensemble_variance", "emulator", channel)
    np.testing.assert_allclose(variance, 0.25, rtol=1e-2)
    persistence = (scores.values(name, "persistence", channel) for name in ("crps", "mae"))
    np.testing.assert_allclose(*persistence, rtol=1e-12)


def test_an_ensemble_is_compared_with_a_baseline_on_crps(scores: Scores) -> None:
    found = compare(Side("ensemble", scores), Side("climatology", scores, "climatology"), "crps")
    assert found.tests and found.metric == "crps"


@pytest.mark.long  # test_store_page has the same part
def test_the_report_of_an_ensemble_has_a_part_about_its_members(made: Made, scores: Scores) -> None:
    """Without plumes; with them, at a point that is given later, nothing is scored again."""
    experiment, root = made
    assert run_step("report", experiment, root)["status"] == "completed"
    page = Paths(experiment, root).report.read_text()
    for words in (
        "<h2>Ensemble</h2>",
        "Spread over error",
        "Rank histograms",
        "Spectra of members",
        "spread beside error",
    ):
        assert words in page, words
    assert "No reliability diagrams" in page and "<h3>Plumes</h3>" not in page
    pointed = loading.parse(loading.dump(experiment), ["evaluation.plume_points=[[52.5, 13.4]]"])
    assert Paths(pointed, root).scores == Paths(experiment, root).scores
    assert run_step("report", pointed, root)["status"] == "completed"
    page = Paths(pointed, root).report.read_text()
    assert "<h3>Plumes</h3>" in page and page.count("of each member at") == len(scores.channels)


def test_nights_of_ensembles_add_up(scores: Scores) -> None:
    whole = scores.states()
    times = scores.initial_times
    once = merge(None, scores)
    again = merge(once, scores)  # a night that is recorded a second time
    assert again.histograms is not None and scores.histograms is not None
    assert again.diagnostics is not None and Diagnostics.restore(again.diagnostics).ensemble
    assert Histograms.restore(again.histograms).initial_times.tolist() == times.tolist()
    assert again.states()["emulator"].checksum() == whole["emulator"].checksum()
    with pytest.raises(UserError, match="in the sums already"):
        Histograms.restore(scores.histograms).merge(Histograms.restore(scores.histograms))
