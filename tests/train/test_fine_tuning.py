"""Fine-tuning: what is frozen keeps its bits, groups learn at their own rates, and moments may go on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from graphufs.config import loading
from graphufs.deepmind.warm_start import initial_moments
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train.optimizer import by_tensor, rate_factors, split, tensor_names
from tests.conftest import TINY
from tests.support.emulators import emulator, save
from tests.support.training import assert_equal_arrays, final_arrays

FREEZE = "training.freeze=[encoder.*, processor.steps.0.*]"
FACTORS = "training.learning_rate_factors={decoder.*: 0.5, decoder.output.*: 0.01}"


def tuned(finished_root: Path, *overrides: str) -> Any:
    start = Paths(loading.load(TINY), finished_root).checkpoints / "00000016"
    return loading.load(TINY, [f"training.init_from={start}", *overrides])


def is_frozen(name: str) -> bool:
    return name.startswith(("network.encoder.", "network.processor.steps[0]."))


def network_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in arrays.items() if name.startswith("network.")}


@pytest.fixture(scope="module")
def fine_tuned(finished_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    root = shutil.copytree(finished_root, tmp_path_factory.mktemp("tuned") / "root")
    experiment = tuned(finished_root, FREEZE, FACTORS, "training.average=0.9")
    assert run_step("train", experiment, root)["status"] == "completed"
    return Paths(experiment, root)


def test_frozen_tensors_keep_their_bits_and_have_no_moments(tiny: Any, fine_tuned: Paths, finished_root: Path) -> None:
    before, after = network_of(final_arrays(Paths(tiny, finished_root))), final_arrays(fine_tuned)
    learnt = checkpoint.read_arrays(checkpoint.last(fine_tuned.checkpoints), "training.npz")  # type: ignore[arg-type]
    assert any(map(is_frozen, before)) and not all(map(is_frozen, before))
    for name, values in before.items():
        if is_frozen(name) or name.endswith(".weight"):  # a bias that nothing depends on stays zero
            assert np.array_equal(values, after[name]) == is_frozen(name), name
            assert np.array_equal(values, learnt[name]) == is_frozen(name), name  # the parameters besides their average
        moments = [key for key in learnt if key.endswith(f".mu{name.removeprefix('network')}")]
        assert len(moments) == (0 if is_frozen(name) else 1), name


def test_a_stopped_fine_tuning_ends_in_the_same_bits(fine_tuned: Paths, finished_root: Path, copy_of_root: Any) -> None:
    root, count = copy_of_root(finished_root), iter(range(100))
    assert run_step("train", fine_tuned.experiment, root, should_stop=lambda: next(count) >= 6)["status"] == "stopped"
    assert run_step("train", fine_tuned.experiment, root)["status"] == "completed"
    assert_equal_arrays(final_arrays(Paths(fine_tuned.experiment, root)), final_arrays(fine_tuned))


def test_statistics_and_moments_of_the_source_go_on(tiny: Any, finished_root: Path, copy_of_root: Any) -> None:
    root = copy_of_root(finished_root)
    ours = "training.stages=[{name: one, updates: 1, learning_rate: {peak: 1.0e-12}}]"
    settings = "training.init_statistics=source", "training.init_optimizer=true", "normalization.weights=area", ours
    experiment = tuned(finished_root, *settings)
    assert run_step("normalize", experiment, root)["status"] == "completed"
    assert run_step("train", experiment, root)["status"] == "completed"
    before, after = final_arrays(Paths(tiny, finished_root)), final_arrays(Paths(experiment, root))
    for name, values in before.items():
        if name.startswith("statistics."):
            np.testing.assert_array_equal(values, after[name], err_msg=name)
        elif name.endswith(".count") and ".mu" not in name:
            assert after[name] == values + 1
        elif ".nu." in name:  # what is left of it after one update with b2
            assert (after[name] >= 0.95 * values - 1e-12).all(), name


def test_groups_learn_at_their_rates() -> None:
    network = emulator().network
    ones = jax.tree.map(np.ones_like, network)
    factors = rate_factors(network, {"decoder.*": 0.5, "decoder.output.*": 0.01, "*.norm.scale": 3.0})
    scaled = by_tensor(ones, factors)
    for name, leaf in zip(tensor_names(scaled), jax.tree.leaves(scaled), strict=True):
        is_output, in_decoder = name.startswith("decoder.output."), name.startswith("decoder.")
        expected = 3.0 if name.endswith(".norm.scale") else 0.01 if is_output else 0.5 if in_decoder else 1.0
        np.testing.assert_allclose(leaf, expected, err_msg=name)


def test_a_pattern_that_fits_nothing_names_the_groups() -> None:
    network = emulator().network
    with pytest.raises(UserError, match=r"freeze has the pattern encoder, which fits no tensor .* encoder.embed_grid"):
        split(network, ["processor.*", "encoder"])
    with pytest.raises(UserError, match=r"factors has the pattern x\*, .*processor.steps.1.nodes.\*.*decoder.output"):
        rate_factors(network, {"x*": 0.5})
    with pytest.raises(UserError, match="freezes all"):
        split(network, ["*"])


def test_a_training_with_such_a_pattern_ends_before_it_begins(finished_root: Path, copy_of_root: Any) -> None:
    with pytest.raises(UserError, match=r"training.freeze has the pattern nothing\.\*"):
        run_step("train", tuned(finished_root, "training.freeze=[nothing.*]"), copy_of_root(finished_root))


def test_a_source_without_moments_has_none_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no state of an optimizer, which training.init_optimizer asks for"):
        initial_moments(emulator(), save(emulator(seed=1), tmp_path))


@pytest.mark.parametrize("key", ["init_statistics=rescaled", "init_new=zero", "init_optimizer=true"])
def test_what_is_about_initial_weights_needs_some(key: str) -> None:
    with pytest.raises(UserError, match=f"{key.split('=')[0]} is about what init_from has; give init_from"):
        loading.load(TINY, [f"training.{key}"])


def test_moments_do_not_go_with_rescaled_weights() -> None:
    settings = ["init_from=x", "init_statistics=rescaled", "init_optimizer=true"]
    with pytest.raises(UserError, match="init_optimizer cannot go with init_statistics: rescaled"):
        loading.load(TINY, [f"training.{setting}" for setting in settings])
