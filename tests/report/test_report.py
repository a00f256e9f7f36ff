"""The report: one page, complete in itself, that says what it is about."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.errors import UserError
from graphufs.grid.grid import Grid
from graphufs.report import page as page_module
from graphufs.report import step, training_log
from graphufs.report.maps import _ticks
from graphufs.report.page import Content, render
from graphufs.report.summary import lead_beaten, tiles
from graphufs.report.typical import typical_time
from graphufs.steps import never_stop, no_progress, run_step
from graphufs.storage.paths import Paths
from graphufs.vocabulary.labels import number
from graphufs.weatherbench.compare.comparison import Side, compare
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.results.scores import Scores
from tests.support import idealised

Scored = tuple[Experiment, Path, Scores]
BANNER = "not weather skill"


@pytest.fixture(scope="module")
def page(scored: Scored) -> str:
    """The page of the step, maps, training curve and all."""
    experiment, root, _ = scored
    idealised.write_metrics(experiment, root)
    result = run_step("report", experiment, root)
    assert result["status"] == "completed" and result["bytes"] < 5_000_000
    return Path(result["report"]).read_text()


@pytest.fixture
def content(scored: Scored) -> Content:
    """What a page without maps and training curve is made of."""
    experiment, root, scores = scored
    prepared = PreparedData.open(Paths(experiment, root).data)
    grid = Grid(prepared.latitude, prepared.longitude)
    missing = Path("metrics.jsonl")
    return Content(experiment, scores, prepared, grid, None, np.timedelta64(72, "h"), None, missing, None)


@pytest.fixture
def fewer_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures that most of a page's time goes to, where a test is about something else."""
    for name in ("_spectra", "_error_maps"):
        monkeypatch.setattr(page_module, name, lambda *_: [])


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert not re.search(r"https?:|//cdn|@import|<script|<link|<iframe|\bsrc=", page)
    references = re.findall(r'(?:href|xlink:href)="([^"]{0,30})', page) + re.findall(r"url\(([^)]{0,30})", page)
    assert references and all(place.startswith(("#", "data:image/png;base64,")) for place in references)


def test_the_page_is_well_formed(page: str) -> None:
    void = {"meta", "line", "path", "use", "image", "br", "rect"}

    class Balanced(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in void:
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            if tag not in void:
                assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    figures = re.findall(r'<svg class="figure".*?</svg>', page, re.DOTALL)
    # for each of four targets RMSE, ACC, spectra, maps of the error and of a case; scorecard; variability; training
    assert len(figures) == 5 * 4 + 3
    for figure in figures:
        ElementTree.fromstring(figure)
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert len(identities) == len(set(identities))


def test_colours_and_fonts_are_left_to_the_page(page: str) -> None:
    defined = set(re.findall(r"--([a-z-]+):", page))
    assert set(re.findall(r"var\(--([a-z-]+)\)", page)) <= defined
    assert "#0102" not in page and "DejaVu" not in page
    light, dark = page.split("@media (prefers-color-scheme: dark)")
    assert set(re.findall(r"--([a-z]+): #", light)) == set(re.findall(r"--([a-z]+): #", dark.split("}")[0]))


def test_numbers_on_the_page_are_the_scores(page: str, scored: Scored) -> None:
    _, _, scores = scored
    for channel in scores.channels:
        value = scores.at("rmse", "emulator", channel, np.timedelta64(48, "h")) * scores.unit(channel).scale
        assert f"<b>{number(value)}</b>" in page
        ratio = scores.ratio("emulator", "climatology", channel, np.timedelta64(120, "h"))
        assert f">{number(ratio)}</span>" in page


def test_the_page_tells_configuration_and_provenance(page: str, scored: Scored) -> None:
    experiment, root, _ = scored
    for text in (
        "batch_size: 2",
        "native model layers (hPa: 500 → 505.652",
        "1994-01-01T00 to 1994-04-30T18",
        "triangular window of 61 days",
        "WeatherBench2 conventions",
        "64, every 30 h from 1995-01-01 06:00",
        "0 of 848",
        Paths(experiment, root).hashes["scores"],
        "jax 0.",
    ):
        assert text in page, text


def test_every_axis_has_its_unit(page: str) -> None:
    figures = re.findall(r'<svg class="figure".*?</svg>', page, re.DOTALL)
    for figure in figures:
        texts = " ".join(re.findall(r"<text[^>]*>([^<]*)", figure))
        assert re.search(r"lead time \(days\)|60°N|update|zonal wavenumber|percent", texts), texts
        assert re.search(r"\((hPa|K|m/s|1|normalised mean square)\)|hPa|m/s|\bK\b", texts), texts


@pytest.mark.usefixtures("fewer_figures")
def test_only_the_embedded_world_has_the_banner(page: str, content: Content) -> None:
    assert BANNER not in page
    embedded = loading.parse(loading.dump(content.experiment), ["data.source.url=embedded"])
    html = render(replace(content, experiment=embedded), "key")
    assert BANNER in html and html.index(BANNER) < html.index("Error by lead time")
    assert "the embedded idealised world, seed 0" in html


def test_without_log_and_forecasts_the_page_says_so(content: Content) -> None:
    html = render(content, "key")
    assert "No training log was found at" in html and "no longer there, so there are no maps" in html
    assert html.count('<svg class="figure"') == 4 * 4 + 2


def test_scores_without_maps_and_spectra_say_so(content: Content) -> None:
    bare = Scores(content.scores.dataset, content.scores._statistics)
    html = render(replace(content, scores=bare), "key")
    assert "hold no maps and spectra" in html and "zonal wavenumber" not in html
    assert html.count('<svg class="figure"') == 2 * 4 + 2


def test_too_few_initial_times_for_chance_are_told(content: Content) -> None:
    states = {name: state.select(state.initial_times[:7]) for name, state in content.scores.states().items()}
    attributes = {key: value for key, value in content.scores.dataset.attrs.items() if not key.startswith("metric_")}
    units = {str(name): content.scores.dataset[name].attrs for name in content.scores.dataset.data_vars}
    few = Scores.from_states(states, attributes, units)
    html = render(replace(content, scores=few), "key")
    assert "Fewer than 8 initial times are scored" in html and "95 % confidence" not in html


def test_intervals_and_the_scorecard_are_those_of_the_differences(page: str, scored: Scored) -> None:
    scores = scored[2]
    found = compare(Side("a", scores), Side("b", scores, "damped_persistence"), control="fdr")
    card = next(figure for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "Scorecard: RMSE" in figure)
    shown = [float(text.replace("−", "-")) for text in re.findall(r">([+−][\d.]+) %<", card)]
    leads = [int(np.flatnonzero(scores.lead_hours == hours)[0]) for hours in (6, 24, 48, 72, 120, 240)]
    expected = found.percent[leads, :, 0].T.ravel()
    np.testing.assert_allclose(shown, expected, atol=0.51)
    assert card.count("stroke-width: 1.1") == found.significant[leads, :, 0].sum()


@pytest.mark.usefixtures("fewer_figures")
def test_words_from_the_experiment_cannot_break_the_page(content: Content) -> None:
    nasty = content.experiment.model_copy(update={"description": "<script>alert(1)</script> & so on"})
    html = render(replace(content, experiment=nasty), "key")
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; so on" in html


@pytest.mark.usefixtures("fewer_figures")
def test_what_weakens_the_scores_stands_at_the_top(content: Content) -> None:
    scores = Scores(content.scores.dataset.copy(deep=True), content.scores._statistics)
    scores.dataset.attrs |= {
        "independent_initial_times": 60,
        "excluded_initial_times": {"1995-01-20T06": "no usable truth at 1995-01-21T00"},
        "climatology_days_without_data": 12,
    }
    scores.dataset["surface_pressure"].loc[{"forecast": "emulator", "metric": "rmse"}][..., -1] = np.nan
    evaluation = content.experiment.data.evaluation.model_dump_json()
    overlaps = ["data.allow_overlap=[normalization, validation]", f"normalization.period={evaluation}"]
    overlapping = loading.parse(loading.dump(content.experiment), overlaps)
    html = render(replace(content, scores=scores, experiment=overlapping), "key")
    top = html[: html.index("Error by lead time")]
    for text in (
        "The normalization period overlaps the evaluation period",
        "4 of the 64 forecasts use or verify on times of the training or validation period",
        "Initial times left out for want of a forecast or of a usable truth, 1: 1995-01-20T06.",
        "For 12 of the scored days of the year",
        "Some forecasts are not finite",
    ):
        assert text in top, text


@pytest.mark.parametrize(
    ("end", "words"),
    [("02-24T18", "55 days of one season, 1994-01-01T00 to"), ("07-01T18", "182 days and no whole year")],
)
def test_a_training_on_less_than_a_year_is_told(content: Content, end: str, words: str) -> None:
    period = f"data.training={{start: 1994-01-01T00, end: 1994-{end}}}"
    short = loading.parse(loading.dump(content.experiment), [period])
    [caution] = page_module._cautions(replace(content, experiment=short))
    assert caution.startswith(f"Trained on {words}")
    embedded = loading.parse(loading.dump(short), ["data.source.url=embedded"])
    assert page_module._cautions(replace(content, experiment=embedded)) == []


def test_a_clean_experiment_has_no_other_cautions(page: str) -> None:
    assert page.count('role="note"') == 1
    note = page[page.index('role="note"') :]
    assert note[: note.index("</div>")].count("<p>") == 1 and "<p>Trained on 120 days and no whole year" in note


@pytest.mark.usefixtures("fewer_figures")
def test_a_second_run_changes_nothing_and_a_longer_log_makes_a_new_page(page: str, scored: Scored) -> None:
    experiment, root, _ = scored
    paths = Paths(experiment, root)
    assert run_step("report", experiment, root) == {
        "step": "report",
        "status": "unchanged",
        "report": str(paths.report),
    }
    before = paths.metrics.read_text()
    paths.metrics.write_text(before + '{"event": "update", "stage": "rollout", "update": 401, "loss": 0.09}\n')
    assert run_step("report", experiment, root)["status"] == "completed"
    assert "401 updates" in paths.report.read_text()


def test_without_scores_the_command_is_named(scored: Scored, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="graphufs evaluate"):
        step.run(scored[0], tmp_path, progress=no_progress, should_stop=never_stop)


def test_the_case_of_the_maps_is_the_one_with_the_median_error(scored: Scored) -> None:
    _, _, scores = scored
    lead = np.timedelta64(72, "h")
    errors = scores.states()["emulator"].by_initial_time(["rmse"])["rmse"][:, 11, :, 0]
    relative = (errors / errors.mean(axis=0)).mean(axis=1)
    chosen = relative[list(scores.initial_times).index(typical_time(scores, lead, scores.initial_times))]
    assert (relative < chosen).sum() == (len(relative) - 1) // 2


def test_the_lead_up_to_which_a_baseline_is_beaten_ends_at_the_first_defeat(scored: Scored) -> None:
    scores = Scores(scored[2].dataset.copy(deep=True), scored[2]._statistics)
    channel = Channel("surface_pressure")
    rmse = scores.dataset["surface_pressure"]
    rmse.loc[{"forecast": "climatology", "metric": "rmse"}] = 1.0
    for values, hours in ((np.full(40, 0.5), 240), (np.where(np.arange(40) == 9, 1.5, 0.5), 54), (np.full(40, 2.0), 0)):
        rmse.loc[{"forecast": "emulator", "metric": "rmse"}] = values
        assert lead_beaten(scores, "climatology", channel) == hours
    rmse.loc[{"forecast": "climatology", "metric": "rmse"}] = np.nan
    assert lead_beaten(scores, "climatology", channel) is None
    assert any(tile.value == "–" for tile in tiles(scores))


@pytest.mark.parametrize(("count", "most"), [(5, 9), (15, 5), (21, 9), (3, 5)])
def test_ticks_are_few_even_and_hold_the_middle(count: int, most: int) -> None:
    bounds = np.linspace(-1, 1, count)
    ticks = _ticks(bounds, most)
    assert len(ticks) <= most + 1 and 0 in ticks
    assert len(set(np.round(np.diff(ticks), 9))) <= 1


@pytest.mark.usefixtures("fewer_figures")
def test_a_log_of_one_update_is_drawn(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "update", "update": 1, "loss": 2.0}\n')
    html = render(replace(content, log=training_log.read(path)), "key")
    assert "<p>1 update.</p>" in html


@pytest.mark.usefixtures("fewer_figures")
def test_validation_forecasts_are_drawn_and_the_best_is_told(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"event": "update", "update": update, "loss": 2.0 / update} for update in (1, 2, 3)]
    scores = ((1, 0.9), (2, 0.5), (3, 0.6))
    lines += [{"event": "forecasts", "update": update, "score": score} for update, score in scores]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = render(replace(content, log=training_log.read(path)), "key")
    said = re.search(r"validation forecasts at best (\S+) of persistence's error, after 2 updates", unescape(html))
    assert said is not None and float(said.group(1)) == 0.5
    assert "validation forecasts (right)" in html and "RMSE / persistence" in html
