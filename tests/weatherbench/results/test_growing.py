"""Scores that grow: in parts that are written once, and the same numbers as of all at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from graphufs.errors import UserError
from graphufs.storage.zarr_io import store_damage
from graphufs.weatherbench.inputs.channels import Channel
from graphufs.weatherbench.metrics.metrics import DEFAULT_STATISTICS
from graphufs.weatherbench.results import parts
from graphufs.weatherbench.results.growing import can_grow, grown
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.running_sums import RunningSums
from graphufs.weatherbench.scoring.score_state import Axes, ScoreState

LEADS = tuple(np.arange(1, 4) * np.timedelta64(6, "h").astype("timedelta64[ns]"))
CHANNELS = (Channel("surface_pressure"), Channel("temperature", 500.0))
PART = 4


def states(first: int, count: int, skipna: bool = False) -> dict[str, ScoreState]:
    axes = Axes(DEFAULT_STATISTICS, LEADS, CHANNELS, ("global", "tropics"), skipna=skipna)
    made = {name: ScoreState(axes) for name in ("emulator", "persistence")}
    for name, state in made.items():
        for number in range(first, first + count):
            values = np.random.default_rng([number, len(name)]).uniform(0.5, 2, axes.shape)
            if skipna and number % 3 == 0:
                values[:, 0] = np.nan
            state.update(np.datetime64("2020-01-01", "ns") + number * np.timedelta64(12, "h"), values)
    return made


def at_once(count: int) -> Scores:
    return Scores.from_states(states(0, count), {}, {}, part=PART)


def opened_after(folder: Path, *counts: int) -> Scores:
    """The scores after nights of so many initial times each, the stores of which are named by how many there are."""
    at_once(counts[0]).write(folder / f"{counts[0]}.zarr")
    done = counts[0]
    for count in counts[1:]:
        before = Scores.open(folder / f"{done}.zarr", finished_parts=False)
        new = states(done, count)
        assert can_grow(before, new)
        done += count
        grown(before, new, {}, {}, None, None).write(folder / f"{done}.zarr")
    return Scores.open(folder / f"{done}.zarr")


@pytest.mark.parametrize("counts", [(3, 1, 1), (6, 3, 2, 9), (8, 4)])
def test_scores_that_grew_are_those_of_all_at_once(tmp_path, counts):
    found, expected = opened_after(tmp_path, *counts), at_once(sum(counts))
    for name in expected.dataset.data_vars:
        assert found.dataset[name].identical(expected.dataset[name])
    assert found.dataset.attrs["initial_times"] == sum(counts)
    assert found.checksums == expected.checksums and found.part_checksums == expected.part_checksums
    np.testing.assert_array_equal(found.initial_times, expected.initial_times)
    for name, state in found.states().items():
        np.testing.assert_array_equal(state.stacked(), expected.states()[name].stacked())
    one = found.states("rmse") if sum(counts) else {}
    np.testing.assert_array_equal(one["emulator"].finalize()["rmse"], found.states()["emulator"].finalize()["rmse"])
    read = xr.open_zarr(found.path, group="statistics", chunks=None)  # as others read it
    assert read.sizes["init_time"] == sum(counts) and read["temperature"].encoding["chunks"][1] == PART
    np.testing.assert_array_equal(read["init_time"].values, expected.initial_times)


def test_before_it_is_written_it_has_all_that_the_store_will_have(tmp_path):
    before = opened_after(tmp_path, 6)
    made = grown(before, states(6, 5), {}, {}, None, None)
    expected = at_once(11)
    for metric in ("rmse", None):
        state, other = (one.states(metric)["persistence"].finalize(["rmse"])["rmse"] for one in (made, expected))
        np.testing.assert_array_equal(state, other)
    np.testing.assert_array_equal(made.initial_times, expected.initial_times)
    assert made.csv() == expected.csv()


def test_full_parts_are_not_written_again(tmp_path, monkeypatch):
    opened_after(tmp_path, 6, 3)
    older, newer = tmp_path / "6.zarr/statistics/temperature", tmp_path / "9.zarr/statistics/temperature"
    assert os.path.samefile(older / "0.0.0.0.0.0", newer / "0.0.0.0.0.0")
    assert not os.path.samefile(older / "0.1.0.0.0.0", newer / "0.1.0.0.0.0")
    assert len(Scores.open(tmp_path / "6.zarr").states()["emulator"]) == 6  # as it was

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(parts, "os", SimpleNamespace(link=no_links))
    assert len(opened_after(tmp_path, 6, 3).states()["emulator"]) == 9
    assert not os.path.samefile(older / "0.0.0.0.0.0", newer / "0.0.0.0.0.0")


def test_what_is_damaged_is_found(tmp_path):
    store = opened_after(tmp_path, 6, 3).path
    for chunk, at_night in (("0.0.0.0.0.0", False), ("0.2.0.0.0.0", True)):
        path = store / "statistics/temperature" / chunk
        content = path.read_bytes()
        path.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
        assert store_damage(store) is not None
        with pytest.raises(UserError, match="are damaged"):
            Scores.open(store)
        if at_night:
            with pytest.raises(UserError, match="are damaged"):
                Scores.open(store, finished_parts=False)
        else:
            Scores.open(store, finished_parts=False)  # only its size is looked at
            path.write_bytes(content[:-1])
            with pytest.raises(UserError, match="are damaged"):
                Scores.open(store, finished_parts=False)
        path.write_bytes(content)
    assert Scores.open(store).states()


def test_earlier_initial_times_and_stores_of_before_cannot_be_added_to(tmp_path):
    scores = opened_after(tmp_path, 6)
    assert can_grow(scores, states(6, 1)) and not can_grow(scores, states(5, 2))
    Scores.from_states(states(0, 6), {}, {}).write(tmp_path / "plain.zarr")
    plain = Scores.open(tmp_path / "plain.zarr")
    assert plain.part is None and not can_grow(plain, states(6, 1))
    assert plain.checksums["emulator"] == states(0, 6)["emulator"].checksum()
    other = {name: state.restricted({"leads": LEADS[:2]} | whole(state)) for name, state in states(6, 1).items()}
    with pytest.raises(UserError, match="agree in leads"):
        grown(scores, other, {}, {}, None, None)


def whole(state: ScoreState) -> dict[str, object]:
    return {name: getattr(state.axes, name) for name in ("statistics", "channels", "regions")}


@pytest.mark.parametrize("skipna", [False, True])
def test_running_sums_give_the_scores_of_all(skipna):
    state = states(0, 20, skipna)["emulator"]
    sums = RunningSums(state.axes)
    for piece in np.split(state.initial_times, [7, 8, 15]):
        sums = sums.add(state.select(piece).averages())
    for name, expected in state.finalize().items():
        np.testing.assert_array_equal(sums.finalize()[name], expected)
