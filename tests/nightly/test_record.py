"""Nights add up: whatever the order and whoever is killed, the store is the one of scoring all at once."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.nightly.scores import NightlyScores
from graphufs.registry import registry
from graphufs.report import nights
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.weatherbench.results.scores import Scores
from tests.conftest import TINY
from tests.nightly.conftest import store_of
from tests.support.killing import Halted


def same(scores: Scores, expected: Scores) -> bool:
    """Whether scores and the states behind them are equal in every number."""
    return (
        all(scores.dataset[name].identical(expected.dataset[name]) for name in expected.dataset.data_vars)
        and scores.checksums == expected.checksums
        and {name: state.checksum() for name, state in scores.states().items()} == expected.checksums
    )


def recorded(experiment, root):
    scores = store_of(experiment, root).open()
    assert scores is not None
    return scores


def test_nights_in_any_order_give_the_scores_of_scoring_all_at_once(
    tiny, registered_root, copy_of_root, night, monkeypatch
):
    monkeypatch.setattr(nights, "SINGLE", 4)
    root = copy_of_root(registered_root)
    for chosen, total in (((4, 5, 6), 3), ((0, 9), 5), ((1, 2, 3, 7, 8), 10)):
        result = run_step("record_nightly", night(root, chosen), root)
        assert (result["status"], result["added"], result["initial_times"]) == ("completed", len(chosen), total)
    at_once = Scores.open(Paths(tiny, root).scores)
    assert same(recorded(tiny, root), at_once)
    assert result["holes"] == [] and result["latest"]["initial_times"] == 10
    assert result["latest"] == registry.models(root)[0].scores
    assert os.readlink(root / result["store"]).startswith("scores-") and (root / result["report"]).is_file()
    assert len(list(store_of(tiny, root).folder.glob("scores-*.zarr"))) == 2  # one for readers that have it open
    by_month = re.findall(r"<th>(\d{4}-\d\d), mean of (\d)</th>", (root / result["report"]).read_text())
    assert sum(int(count) for _, count in by_month) == 6


def test_a_repeated_night_changes_no_file(tiny, registered_root, copy_of_root, night):
    root = copy_of_root(registered_root)
    tonight = night(root, (0, 1))
    run_step("record_nightly", tonight, root)
    folder = store_of(tiny, root).folder
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    again = run_step("record_nightly", tonight, root)
    assert (again["status"], again["added"], again["initial_times"]) == ("unchanged", 0, 2)
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before


def test_initial_times_between_others_without_a_score_are_told_with_the_reason(
    tiny, registered_root, copy_of_root, night
):
    root = copy_of_root(registered_root)
    store_of(tiny, root).note_holes({"1994-01-14T06": "no data at 1994-01-14T12"})
    result = run_step("record_nightly", night(root, (0, 1, 5)), root)
    reasons = {hole["initial_time"]: hole["why"] for hole in result["holes"]}
    assert reasons == {
        "1994-01-14T06": "no data at 1994-01-14T12",
        "1994-01-14T18": "not scored yet",
        "1994-01-15T06": "not scored yet",
    }
    assert recorded(tiny, root).dataset.attrs["holes"] == reasons
    page = (root / result["report"]).read_text()
    section = page[page.index("<h2>Nights</h2>") : page.index("<h2>Error by lead time</h2>")]
    assert "3 initial times are scored; 3 between them have no score" in section
    rows = re.findall(r"<tr><th>(1994[^<]*)</th>(.*?)</tr>", section, re.DOTALL)
    assert [time for time, _ in rows] == [
        "1994-01-15T18", "1994-01-15T06", "1994-01-14T18", "1994-01-14T06", "1994-01-13T18", "1994-01-13T06",
    ]  # fmt: skip
    assert "no data at 1994-01-14T12" in rows[3][1] and "not scored" not in rows[0][1]
    assert "no score" in re.sub(r"<table.*?</table>", "", section, flags=re.DOTALL)  # in the chart
    filled = run_step("record_nightly", night(root, (2, 3, 4)), root)
    assert filled["holes"] == [] and "none between them have no score" in (root / filled["report"]).read_text()


def test_the_ratios_of_a_night_are_its_own(tiny, registered_root, copy_of_root, night):
    root = copy_of_root(registered_root)
    result = run_step("record_nightly", night(root, (0, 1)), root)
    section = (root / result["report"]).read_text().split("<h2>Nights</h2>")[1].split("</table>")[0]
    states = recorded(tiny, root).states()
    rmse = {name: state.by_initial_time(["rmse"])["rmse"][1, 2, :, 0] for name, state in states.items()}
    expected = (rmse["emulator"] / rmse["persistence"]).mean()  # at 18 hours, the lead in the middle
    assert re.search(rf"1994-01-13T18</th><td>{expected:.2f}</td>", section)


@pytest.mark.parametrize(
    ("module", "name", "moment"),
    [
        pytest.param("graphufs.storage.atomic", "remove_folder", "before", marks=pytest.mark.long),
        pytest.param("graphufs.weatherbench.results.scores", "write_zarr", "after", marks=pytest.mark.long),
        ("graphufs.nightly.scores", "NightlyScores.write", "after"),
    ],
)
def test_killed_while_it_records_the_old_store_stays_until_the_new_one_is_whole(
    tiny, registered_root, copy_of_root, night, module, name, moment
):
    root = copy_of_root(registered_root)
    run_step("record_nightly", night(root, (0, 1, 2)), root)
    opened_before = recorded(tiny, root)
    second = night(root, (3, 4, 5, 6, 7, 8, 9))
    Halted("record_nightly", second, root, module, name, 1, moment).kill()
    shown = len(recorded(tiny, root).initial_times)
    assert shown == (10 if name == "NightlyScores.write" else 3)
    result = run_step("record_nightly", second, root)
    assert result["initial_times"] == 10 and "10 initial times are scored" in (root / result["report"]).read_text()
    assert same(recorded(tiny, root), Scores.open(Paths(tiny, root).scores))
    assert len(opened_before.states()["emulator"]) == 3  # who opened it before still reads what it was


def test_two_nights_recorded_at_the_same_time_are_both_there(tiny, registered_root, copy_of_root, night):
    root = copy_of_root(registered_root)
    nights = [night(root, range(0, 5)), night(root, range(5, 10))]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda experiment: run_step("record_nightly", experiment, root), nights))
    assert sorted(result["initial_times"] for result in results) == [5, 10]
    assert same(recorded(tiny, root), Scores.open(Paths(tiny, root).scores))


def test_scores_of_another_kind_or_result_are_refused(tiny, registered_root, copy_of_root, night):
    root = copy_of_root(registered_root)
    run_step("record_nightly", night(root, (0, 1)), root)
    tonight = night(root, (1, 2))
    path = Paths(tonight, root).scores
    scores = Scores.open(path)
    states = scores.states()
    averages = states["emulator"]._averages
    averages[scores.initial_times[0]] = averages[scores.initial_times[0]] + 1.0
    own = {key: value for key, value in scores.dataset.attrs.items() if key != "initial_times"}
    variables = {str(name): scores.dataset[name].attrs for name in scores.dataset.data_vars}
    Scores.from_states(states, own, variables).write(path)
    with pytest.raises(UserError, match="1994-01-13T18 has been scored before with another result"):
        run_step("record_nightly", tonight, root)
    Scores.from_states(scores.states(), own | {"climatology_period": "another"}, variables).write(path)
    with pytest.raises(UserError, match="climatology_period is 'another' instead of '1994-01-01T00"):
        run_step("record_nightly", tonight, root)
    assert len(recorded(tiny, root).initial_times) == 2


def test_a_copy_that_followed_the_link_is_an_error_that_says_how_to_put_it_right(
    tiny, registered_root, copy_of_root, night
):
    root = copy_of_root(registered_root)
    tonight = night(root, (0, 1))
    run_step("record_nightly", tonight, root)
    store = store_of(tiny, root).store
    target = store.resolve()
    store.unlink()
    shutil.copytree(target, store)
    with pytest.raises(UserError, match=f"is no link.*{target.name}"):
        run_step("record_nightly", night(root, (2,)), root)
    shutil.rmtree(store)
    store.symlink_to(target.name)
    assert run_step("record_nightly", night(root, (2,)), root)["initial_times"] == 3


def test_initial_times_that_no_night_has_are_refused(registered_root, copy_of_root, tiny):
    root = copy_of_root(registered_root)
    later = loading.load(TINY, ["data.evaluation={start: 1994-01-14T00, end: 1994-01-18T18}"])
    os.makedirs(Paths(later, root).scores.parent, exist_ok=True)
    Scores.open(Paths(tiny, root).scores).write(Paths(later, root).scores)
    with pytest.raises(UserError, match="no night has: 1994-01-13T06, 1994-01-13T18"):
        run_step("record_nightly", later, root)
    assert store_of(tiny, root).open() is None


def test_a_model_that_is_not_registered_is_refused(finished_root, copy_of_root, tiny):
    root = copy_of_root(finished_root)
    with pytest.raises(UserError, match="graphufs register"):
        run_step("record_nightly", tiny, root)
    assert store_of(tiny, root).open() is None and np.all(
        Scores.open(Paths(tiny, root).scores).leads > np.timedelta64(0)
    )


def test_where_the_newest_scores_are_damaged_those_of_the_nights_before_are_used(tmp_path, monkeypatch, caplog):
    damaged = []

    def opened(path, *, finished_parts):
        assert not finished_parts
        if path.name in damaged or not path.is_dir():
            raise UserError(f"the scores at {path} are damaged")
        return path.name

    monkeypatch.setattr(Scores, "open", opened)
    place = NightlyScores(tmp_path)
    for name in ("scores-a.zarr", "scores-b.zarr"):
        (tmp_path / name).mkdir()
    place.store.symlink_to("scores-b.zarr")
    assert place.open() == "scores-b.zarr" and not caplog.messages
    damaged.append("scores-b.zarr")
    assert place.open() == "scores-a.zarr"
    assert "scores-b.zarr are damaged" in caplog.text and "later ones are scored again" in caplog.text
    shutil.rmtree(tmp_path / "scores-b.zarr")
    assert place.open() == "scores-a.zarr"
    damaged.append("scores-a.zarr")
    with pytest.raises(UserError, match="restore scores-b.zarr, or remove .*`graphufs nightly`"):
        place.open()


def test_the_night_that_was_lost_is_scored_again(tiny, registered_root, copy_of_root, night):
    root = copy_of_root(registered_root)
    for chosen in ((0, 1, 2), (3, 4, 5)):
        run_step("record_nightly", night(root, chosen), root)
    whole, store = recorded(tiny, root), store_of(tiny, root).store
    newest = max(store.resolve().rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    newest.write_bytes(newest.read_bytes()[:-1])
    assert len(recorded(tiny, root).initial_times) == 3
    run_step("record_nightly", night(root, (3, 4, 5)), root)
    assert same(recorded(tiny, root), whole)
