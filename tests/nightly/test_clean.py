"""`graphufs clean`: what is recorded goes when it is old, what anything needs stays, whoever is killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphufs.cli import main
from graphufs.cli.clean import tidy
from graphufs.errors import UserError
from graphufs.housekeeping import removable
from graphufs.housekeeping.retention import Retention
from graphufs.steps import never_stop, run_step
from graphufs.storage import atomic
from graphufs.storage.atomic import write_text
from graphufs.storage.checksums import write_checked
from graphufs.storage.lock import locked
from graphufs.storage.paths import Paths
from graphufs.storage.zarr_io import open_zarr, time_encoding
from graphufs.weatherbench.results.scores import Scores
from tests.nightly.conftest import at

DAYS = 86400.0
KEEP = Retention()


def forecast_of(tiny, root, experiment):
    """Forecasts of some of tiny's own initial times, where the step `forecast` leaves them."""
    place = Paths(experiment, root).forecasts
    times = np.array(experiment.initial_times, "datetime64[ns]")
    part = open_zarr(Paths(tiny, root).forecasts).sel(time=times).load().drop_encoding()
    part.to_zarr(place, zarr_format=2, consolidated=True, encoding=time_encoding(part))
    write_text(place.with_name(f".{place.name}.lock"), "")
    return place


@pytest.fixture
def nights(tiny, registered_root, copy_of_root, night):
    """A root with two recorded nights and one that is forecast and scored, not recorded: root, experiments by night."""
    root = copy_of_root(registered_root)
    made = [night(root, chosen) for chosen in ((0, 1), (2, 3), (4, 5))]
    for one in made:
        forecast_of(tiny, root, one)
    for one in made[:2]:
        run_step("record_nightly", one, root)
    return root, made


def files(root: Path) -> dict[str, float]:
    return {str(path.relative_to(root)): path.lstat().st_mtime for path in root.rglob("*") if path.name != ".lock"}


def after(days: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `clean` run so many days from now."""
    now = time.time() + DAYS * days
    monkeypatch.setattr(removable, "time", SimpleNamespace(time=lambda: now))


def test_what_is_recorded_and_old_goes_and_all_else_stays(tiny, nights, monkeypatch):
    root, (first, second, unrecorded) = nights
    before = files(root)
    assert tidy(root, KEEP, yes=True)["removable"] == [] and files(root) == before, "nothing is old yet"
    after(31, monkeypatch)
    found = tidy(root, KEEP, yes=False)
    assert files(root) == before and not found["done"], "dry by default"
    gone = {str(place) for one in (first, second) for place in (Paths(one, root).forecasts, Paths(one, root).scores)}
    assert {one["path"] for one in found["removable"]} == gone
    assert all(one["bytes"] > 0 and one["files"] > 3 and "30 days" in one["reason"] for one in found["removable"])
    found = tidy(root, KEEP, yes=True)
    assert found["done"] and not found["failed"] and not found["in_use"]
    left = files(root)
    lost = {path for path in before if path not in left}
    hashes = {Paths(one, root).hashes[kind] for one in (first, second) for kind in ("forecasts", "scores")}
    assert all(any(name in path for name in hashes) for path in lost) and all(left[path] for path in left)
    assert not any(name in path for name in hashes for path in left), "locks and tables go with their stores"
    monkeypatch.undo()
    assert run_step("record_nightly", unrecorded, root)["initial_times"] == 6, "nights go on"
    assert run_step("evaluate", tiny, root)["status"] == "unchanged"


@pytest.mark.long
def test_a_model_of_which_nothing_can_be_told_keeps_all(nights, monkeypatch):
    root, (first, *_) = nights
    write_text(Paths(first, root).run / "experiment.yaml", "name: old\nno_such_section: {}\n")
    after(1000, monkeypatch)
    assert not [one for one in removable.find(root, KEEP) if one.kind not in ("caches", "leftovers")]


@pytest.mark.long
def test_forecasts_that_somebody_makes_are_left_with_their_scores(nights, monkeypatch):
    root, (first, second, _) = nights
    after(31, monkeypatch)
    place = Paths(first, root).forecasts
    with locked(place.parent, should_stop=never_stop, waiting=lambda: None, name=f".{place.name}.lock"):
        found = tidy(root, KEEP, yes=True)
    assert len(found["in_use"]) == 2 and found["done"]
    assert place.exists() and Paths(first, root).scores.exists() and not Paths(second, root).forecasts.exists()


@pytest.mark.parametrize("call", [2, *(pytest.param(call, marks=pytest.mark.long) for call in (1, 3))])
def test_a_kill_anywhere_is_healed_by_repeating(nights, monkeypatch, call):
    root, made = nights
    stores = [place for one in made[:2] for place in (Paths(one, root).forecasts, Paths(one, root).scores)]
    after(31, monkeypatch)
    calls = 0

    class Killed(BaseException):
        pass

    def rmtree(*_: Any, **__: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(atomic.shutil, "rmtree", rmtree)  # all of them: the trash stays
        with pytest.raises(Killed):
            tidy(root, KEEP, yes=True)
    assert sum(place.exists() for place in stores) == 4 - call, "under its name a store is whole or not there"
    assert all(open_zarr(place).sizes for place in stores if place.exists())
    found = tidy(root, KEEP, yes=True)
    assert not any(place.exists() for place in stores) and not list(root.rglob("*.trash"))
    assert sum(one["kind"] == "leftovers" for one in found["removable"]) == call


def test_forecasts_of_a_comparison_go_when_its_outcome_is_there(
    tiny, registered_root, copy_of_root, night, monkeypatch
):
    root = copy_of_root(registered_root)
    compared = night(root, (2, 3, 4))
    place, rollout = forecast_of(tiny, root, compared), forecast_of(tiny, root, at(tiny, tiny.initial_times[2:3]))
    after(31, monkeypatch)
    assert removable.find(root, KEEP) == [], "a comparison that is still going on"
    hours = round(float(open_zarr(rollout)["prediction_timedelta"].values.max() / np.timedelta64(1, "h")))
    times = [str(time) for time in compared.initial_times]
    evidence = {"champion": "nobody", "initial_times": times, "rollout_hours": f"{hours}h"}
    write_checked(Paths(tiny, root).run / "comparisons" / "champion-0123.json", evidence)
    assert [one.path for one in removable.find(root, KEEP)] == sorted([place, rollout])
    assert not tidy(root, KEEP, yes=True)["failed"]
    assert not place.exists() and not rollout.exists() and Paths(compared, root).scores.exists()
    assert Paths(tiny, root).forecasts.exists() and Scores.open(Paths(tiny, root).scores)


def leftovers(root: Path) -> Iterator[Path]:
    for folder in ("jobs/key", "registry/history", "runs/a/b/checkpoints", "data/0123/segments", "cache"):
        for name in (".x.12.tmp", ".x.12.trash"):
            write_text(root / folder / name / "inside" / "file", "x")
            yield root / folder / name
        write_text(root / folder / ".y.json.0123.tmp", "x")
        yield root / folder / ".y.json.0123.tmp"
    (root / "runs/a/b/.link.tmp").symlink_to("nowhere")
    yield root / "runs/a/b/.link.tmp"


def test_leftovers_go_everywhere_once_nobody_can_be_at_them(tmp_path, monkeypatch):
    made = list(leftovers(tmp_path))
    kept = [tmp_path / "jobs/key" / name for name in ("result.json", "x.tmp", ".lock", "trash")]
    for path in kept:
        write_text(path, "x")
    assert removable.find(tmp_path, KEEP) == []
    after(3, monkeypatch)
    later = removable.time.time()
    os.utime(made[0] / "inside" / "file", (later, later))  # somebody still writes there
    assert sorted(one.path for one in removable.find(tmp_path, KEEP)) == sorted(made[1:])
    assert not tidy(tmp_path, KEEP, yes=True)["failed"]
    assert made[0].exists() and all(path.exists() for path in kept)
    assert not any(path.exists() or path.is_symlink() for path in made[1:])


def test_compiled_programs_out_of_use_go(tmp_path, monkeypatch):
    old, read, new = (tmp_path / "cache" / "jax" / name for name in ("old-cache", "read-cache", "new-cache"))
    for path, used, written in ((old, 100, 120), (read, 10, 120), (new, 100, 10)):
        write_text(path, "x" * 1000)
        os.utime(path, (time.time() - DAYS * used, time.time() - DAYS * written))
    (one,) = removable.find(tmp_path, KEEP)
    assert (one.kind, one.path, one.files, one.size) == ("caches", old.parent, 1, 1000)
    tidy(tmp_path, KEEP, yes=True)
    assert not old.exists() and read.exists() and new.exists()


@pytest.mark.parametrize("days", [-1.0, float("nan"), float("inf")])
def test_days_that_are_none_are_refused_by_name(tmp_path, days):
    with pytest.raises(UserError, match="--cache-days .*give 0 to"):
        removable.find(tmp_path, Retention(caches=days))


def test_the_command_lists_and_does_it_only_when_told(tmp_path, capsys):
    (made,) = [next(leftovers(tmp_path))]

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main.main(["clean", "--root", str(tmp_path), "--leftover-days", "0", *arguments])
        assert ended.value.code == 0
        return capsys.readouterr().out

    said = call()
    assert str(made) in "".join(said.split()) and "leftovers: 1, 1 files" in said and "--yes" in said and made.exists()
    told = json.loads(call("--yes", "--json"))
    assert told["done"] and [one["path"] for one in told["removable"]] == [str(made)] and not made.exists()
    assert "nothing to do" in call()
