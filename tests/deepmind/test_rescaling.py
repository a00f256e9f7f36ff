"""A fine-tuning's first forecast is that of the model it begins with, whatever the statistics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from graphufs.config import loading
from graphufs.data.loader import Batch
from graphufs.deepmind.export import export
from graphufs.deepmind.released import import_checkpoint
from graphufs.deepmind.warm_start import initial_network, with_source_statistics
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.normalization.statistics import Statistics
from graphufs.vocabulary.variables import BY_REPLAY, DERIVED_FORCINGS
from tests.support.emulators import NOT_STORED, emulator, save

GOLDEN = Path(__file__).parents[1] / "golden" / "graphcast13" / "g1"
INPUTS = ["tmp", "ugrd10m", "vgrd10m", "land_static", "hgtsfc_static", *NOT_STORED]


def fine_tuned(one: ReplayEmulator, source: Path, **settings: Any) -> ReplayEmulator:
    """It as a training would begin with it."""
    content = one.experiment.model_dump(mode="json")
    content["training"] |= {"init_from": str(source), **settings}
    one = replace(one, experiment=loading.parse(json.dumps(content), origin="the test"))
    if settings.get("init_statistics") == "source":
        one = with_source_statistics(one, source)
    return replace(one, network=initial_network(one, source)[0])


def with_statistics(one: ReplayEmulator, seed: int) -> ReplayEmulator:
    """It with statistics like those of other data: means elsewhere, and standard deviations from half to twice."""
    random, before = np.random.default_rng(seed), one.statistics
    assert before is not None
    mean = {name: values + before.std[name] * random.normal(size=values.shape) for name, values in before.mean.items()}
    std, diffs_std = (
        {name: values * random.uniform(0.5, 2, values.shape) for name, values in part.items()}
        for part in (before.std, before.diffs_std)
    )
    return replace(one, statistics=Statistics(mean, std, diffs_std))


def batch(one: ReplayEmulator, same_as: dict[str, tuple[str, float]] | None = None) -> Batch:
    """Random fields about the statistics' size; each is the same in all emulators that have it.

    `same_as` has variables that are so many times another one.
    """
    times, grid = one.experiment.data.input_frames + 2, (one.domain.latitude.size, one.domain.longitude.size)

    def field(name: str, level: float | None) -> Any:
        name, factor = (same_as or {}).get(name, (name, 1.0))
        return factor * np.random.default_rng([*name.encode(), int(level or 0)]).normal(size=(times, *grid))

    frames = np.stack([field(channel.variable, channel.level) for channel in one.domain.channels], axis=1)[None]
    names = {*one.experiment.data.inputs, *one.experiment.data.forcings}
    derived = {name: field(name, None)[None, :, None] for name in names & set(DERIVED_FORCINGS)}
    return Batch(frames.astype(np.float32), {name: values.astype(np.float32) for name, values in derived.items()})


def assert_the_same(one: dict[str, Any], other: dict[str, Any], tolerance: float = 2e-6) -> None:
    for name, values in other.items():
        np.testing.assert_allclose(one[name], values, atol=tolerance * np.abs(values).max(), rtol=0, err_msg=name)


@pytest.mark.parametrize("statistics", ["rescaled", "source"])
def test_the_first_forecast_is_that_of_the_source(tmp_path: Path, statistics: str) -> None:
    # pressfc is a target that is no input, so it is predicted as a value
    targets, data = ("tmp", "ugrd10m", "vgrd10m", "pressfc"), {"inputs": INPUTS}
    trained = with_statistics(emulator(targets, seed=1, data=data), 1)
    mine = with_statistics(emulator(targets, seed=2, data=data), 3)
    tuned = fine_tuned(mine, save(trained, tmp_path), init_statistics=statistics)
    assert_the_same(tuned.predict(batch(trained)), trained.predict(batch(trained)))
    other = fine_tuned(mine, save(trained, tmp_path, 2), init_statistics="new")
    different = np.abs(other.predict(batch(trained))["pressfc"] - trained.predict(batch(trained))["pressfc"])
    assert different.max() > 0.1


@pytest.mark.parametrize("statistics", ["rescaled", "source"])
def test_new_inputs_of_zero_weights_change_nothing(tmp_path: Path, statistics: str) -> None:
    trained = with_statistics(emulator(seed=1), 1)
    mine = with_statistics(emulator(targets=("tmp", "ugrd10m", "vgrd10m", "pressfc"), seed=2), 2)
    tuned = fine_tuned(mine, save(trained, tmp_path), init_statistics=statistics, init_new="zero")
    one, other = tuned.predict(batch(mine)), trained.predict(batch(trained))
    assert_the_same(one, other)
    last = batch(mine).frames[:, 1, mine.domain.slices["pressfc"]]
    np.testing.assert_array_equal(one["pressfc"][:, 0, 0], last[:, 0])  # new outputs say that nothing changes
    random = fine_tuned(mine, save(trained, tmp_path, 2), init_statistics=statistics)
    assert np.abs(random.predict(batch(mine))["tmp"] - other["tmp"]).max() > 1e-3


def test_an_imported_model_forecasts_the_same_with_other_statistics(tmp_path: Path) -> None:
    released = import_checkpoint(GOLDEN / "checkpoint.npz", GOLDEN, tmp_path / "released")
    static = {name: np.full(field.shape, 0.3, np.float32) for name, field in released.domain.static.items()}
    released = replace(released, domain=replace(released.domain, static=static))
    blank = replace(released, network=jax.tree.map(np.zeros_like, released.network))
    tuned = fine_tuned(with_statistics(blank, 4), tmp_path / "released", init_statistics="rescaled")
    fields = batch(released)
    assert released.statistics is not None
    for name, part in released.domain.slices.items():
        mean, std = (values[name][:, None, None] for values in (released.statistics.mean, released.statistics.std))
        fields.frames[:, :, part] = mean + std * fields.frames[:, :, part]
    assert_the_same(tuned.predict(fields), released.predict(fields))


@pytest.mark.parametrize("statistics", ["rescaled", "source"])
def test_a_quantity_may_have_another_name_and_unit_in_the_source(tmp_path: Path, statistics: str) -> None:
    factor = BY_REPLAY["prateb_ave"].scale
    trained = with_statistics(emulator(("2m_temperature", "total_precipitation_3hr"), (), seed=1), 1)
    mine = with_statistics(emulator(("tmp2m", "prateb_ave"), (), seed=2), 2)
    tuned = fine_tuned(mine, save(trained, tmp_path), init_statistics=statistics)
    same = {"2m_temperature": ("tmp2m", 1.0), "total_precipitation_3hr": ("prateb_ave", factor)}
    here, there = tuned.predict(batch(mine)), trained.predict(batch(trained, same))
    assert_the_same({name: scale * here[other] for name, (other, scale) in same.items()}, there)


def test_what_is_a_change_on_one_side_only_is_refused(tmp_path: Path) -> None:
    trained = emulator(seed=1)
    mine = emulator(seed=2, data={"inputs": [name for name in INPUTS if name != "vgrd10m"]})
    with pytest.raises(UserError, match="vgrd10m is predicted as a value here and as a change by init_from"):
        fine_tuned(mine, save(trained, tmp_path), init_statistics="rescaled", init_partial=True)


def test_a_file_without_statistics_has_none_to_give(tmp_path: Path) -> None:
    export(emulator(seed=1), tmp_path / "trained.npz")
    for statistics in ("rescaled", "source"):
        with pytest.raises(UserError, match=f"init_statistics is {statistics}; make a checkpoint of it by"):
            fine_tuned(emulator(seed=2), tmp_path / "trained.npz", init_statistics=statistics)
