"""A forecast in parts: side by side, killed, repeated, and in the end the very bytes of an undivided one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.forecast.store import ForecastWriter
from graphufs.steps import Part, run_step
from graphufs.storage.paths import Paths
from tests.support.children import Child

BLOCKS = 4  # of tiny's 10 initial times, 3 at a time


def forecast_halting(connection, experiment, root: Path, part: Part, what: str, call: int) -> object:
    """In the child: make a part of the forecasts, and halt or die when a block is about to be written."""
    write, calls = ForecastWriter.write, 0

    def halting(self, block, forecasts):
        nonlocal calls
        calls += 1
        if calls == call and what == "die":
            self._group["temperature"][block.first] = 0.0  # half a block is on disk
            (self._store / "temperature" / "9.0.0.0.aa.partial").write_bytes(b"half a chunk")
            os.kill(os.getpid(), signal.SIGKILL)
        if calls == call:
            connection.send(("said", "halted"))
            connection.recv()
        write(self, block, forecasts)

    ForecastWriter.write = halting
    return run_step("forecast", experiment, root, part=part)


def forecasting(experiment, root: Path, part: Part, what: str, call: int) -> Child:
    return Child(forecast_halting, experiment, root, part, what, call)


def content(store: Path) -> dict[str, bytes]:
    """Every file of a store but those that hold attributes, which tell when it was made."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in (".zattrs", ".zmetadata")
    }


@pytest.fixture
def undivided(tiny, finished_root) -> dict[str, bytes]:
    return content(Paths(tiny, finished_root).forecasts)


@pytest.fixture
def root(tiny, finished_root, copy_of_root) -> Path:
    """A root in which all is done but the forecasts."""
    copy = copy_of_root(finished_root)
    Paths(tiny, copy).forecasts.rename(copy / "undivided.zarr")
    return copy


def no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayEmulator, "from_checkpoint", None)


def check_finished(paths: Paths, undivided: dict[str, bytes]) -> None:
    assert content(paths.forecasts) == undivided
    lock = f".{paths.forecasts.name}.lock"
    left = {path.name for path in paths.forecasts.parent.iterdir()} - {".lock"}
    assert left == {lock, paths.forecasts.name}


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0), (0, -1), (0.0, 2), (True, 2), ("0", "2")])
def test_parts_that_are_none_are_refused(index, count):
    with pytest.raises(UserError, match="there is no part .* of .*; parts are numbered from 0 to their count less one"):
        Part(index, count)


@pytest.mark.parametrize("total", [0, 1, 4, 7, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_parts_share_the_work_evenly_and_leave_nothing_out(total, count):
    shares = [Part(index, count).share(total) for index in range(count)]
    assert [number for share in shares for number in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_only_steps_that_can_be_divided_take_a_part(tiny, tmp_path):
    with pytest.raises(UserError, match="train cannot be done in parts; only forecast can"):
        run_step("train", tiny, tmp_path, part=Part(0, 2))


def test_parts_one_after_the_other_make_the_undivided_forecast(tiny, root, undivided, monkeypatch):
    paths = Paths(tiny, root)
    done = []
    for index in (2, 0, 1):
        events = []
        result = run_step("forecast", tiny, root, part=Part(index, 3), progress=events.append)
        assert result["status"] == "completed" and result["part"] == [index, 3]
        assert events[-1].done == events[-1].total
        done.append(events[-1].done)
        assert not paths.forecasts.exists()
    assert sum(done) == 10
    no_emulator(monkeypatch)  # nothing is computed from here on
    assert run_step("forecast", tiny, root, part=Part(1, 3))["status"] == "unchanged"
    assert run_step("forecast", tiny, root)["status"] == "completed"
    check_finished(paths, undivided)
    assert run_step("forecast", tiny, root, part=Part(1, 3))["status"] == "unchanged"
    assert run_step("forecast", tiny, root)["status"] == "unchanged"
    check_finished(paths, undivided)


def test_surplus_parts_return_at_once_and_what_no_part_did_the_whole_does(tiny, root, undivided, monkeypatch):
    paths = Paths(tiny, root)
    surplus = [index for index in range(6) if not Part(index, 6).share(BLOCKS)]
    assert len(surplus) == 2
    with monkeypatch.context() as patch:
        no_emulator(patch)
        for index in surplus:
            assert run_step("forecast", tiny, root, part=Part(index, 6))["status"] == "unchanged"
    assert run_step("forecast", tiny, root, part=Part(5, 6))["status"] == "completed"
    predict, calls = ReplayEmulator.predict, []
    monkeypatch.setattr(ReplayEmulator, "predict", lambda self, *given: calls.append(1) or predict(self, *given))
    assert run_step("forecast", tiny, root)["status"] == "completed"
    assert len(calls) == BLOCKS - 1
    check_finished(paths, undivided)


def test_a_stopped_part_keeps_its_blocks(tiny, root):
    result = run_step("forecast", tiny, root, part=Part(0, 2), should_stop=lambda: True)
    assert result["status"] == "stopped" and "after 3 of 6 initial times" in result["message"]
    (marks,) = Paths(tiny, root).forecasts.parent.glob("*.part/done")
    assert [path.name for path in marks.iterdir()] == ["0"]


def test_two_processes_at_once_while_a_whole_forecast_waits(tiny, root, undivided):
    paths = Paths(tiny, root)
    children = [forecasting(tiny, root, Part(index, 2), "meet", 2) for index in range(2)]
    assert [child.hear() for child in children] == ["halted"] * 2  # both hold what they work on
    events = []
    result = run_step("forecast", tiny, root, progress=events.append, should_stop=lambda: bool(events))
    assert result["status"] == "stopped" and "waiting for another process" in events[-1].label
    for child in children:
        child.answer()
        assert child.hear(120)["status"] == "completed" and child.end() == 0
    assert run_step("forecast", tiny, root)["status"] == "completed"
    check_finished(paths, undivided)


def test_a_part_killed_and_repeated_leaves_no_trace(tiny, root, undivided):
    paths = Paths(tiny, root)
    other = forecasting(tiny, root, Part(1, 2), "meet", 1)
    killed = forecasting(tiny, root, Part(0, 2), "die", 2)
    assert killed.end(120) == -signal.SIGKILL
    assert other.hear() == "halted"  # at work all the while
    events = []
    result = run_step("forecast", tiny, root, part=Part(0, 2), progress=events.append)
    assert result["status"] == "completed"
    other.answer()
    assert other.hear(120)["status"] == "completed"
    assert list(paths.forecasts.parent.rglob("*.partial"))
    assert run_step("forecast", tiny, root)["status"] == "completed"
    check_finished(paths, undivided)
