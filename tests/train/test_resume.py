"""A training that was killed, anywhere, ends in the same bits as one that was not; what is not its own it refuses."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.emulator import checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.forecast.step import finished_checkpoint
from graphufs.normalization.statistics import PROVENANCE
from graphufs.steps import run_step
from graphufs.storage.checksums import files_of, read_checked, write_checked
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from tests.conftest import TINY
from tests.support.killing import Halted
from tests.support.training import assert_equal_arrays, final_arrays

LONG = pytest.mark.long
# Everything a state can hold: an average, a best score, losses the guard remembers. 19 batches make an epoch, so the
# first stage ends in its second one.
SETTINGS = [
    "training.stages=[{name: one-step, updates: 22, learning_rate: {peak: 1.0e-3}},"
    " {name: rollout, updates: 4, rollout: 2, learning_rate: {peak: 1.0e-4}, optimizer: {clip: null}}]",
    "training.average=0.9",
    "training.divergence={window: 5}",
    "training.validation_forecasts={every: 7, initial_times: 2, lead_time: 12h}",
]


@pytest.fixture(scope="module")
def careful():
    return loading.load(TINY, SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(careful, normalized_root, tmp_path_factory):
    root = shutil.copytree(normalized_root, tmp_path_factory.mktemp("undisturbed") / "root")
    assert run_step("train", careful, root)["status"] == "completed"
    return Paths(careful, root)


def events(paths):
    """What the metrics tell, but for the clock's share."""
    clock = {"samples_per_second", "waiting"}
    lines = [line for line in metrics_file.read(paths.metrics) if line["event"] not in ("update", "resume")]
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


@pytest.mark.long  # jobs that are killed end in the same bits among the faults
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        pytest.param("graphufs.train.train_step", "Program.__call__", 4, marks=LONG),  # before the first checkpoint
        pytest.param("graphufs.train.train_step", "Program.__call__", 21, marks=LONG),  # in the second epoch
        pytest.param("graphufs.train.train_step", "Program.__call__", 25, marks=LONG),  # in the second stage
        ("graphufs.emulator.checkpoint", "_sha256", 4),  # while the second checkpoint is written
        pytest.param("graphufs.emulator.checkpoint", "prune", 3, marks=LONG),  # when it has just appeared
        pytest.param("graphufs.train.validation_forecasts", "ValidationForecaster.score", 2, marks=LONG),
    ],
)
def test_a_killed_training_ends_in_the_same_bits(
    careful, undisturbed, normalized_root, copy_of_root, module, name, call
):
    root = copy_of_root(normalized_root)
    Halted("train", careful, root, module, name, call).kill()
    paths = Paths(careful, root)
    assert not checkpoint.updates(paths.checkpoints) or checkpoint.updates(paths.checkpoints)[-1] < 26
    result = run_step("train", careful, root)
    assert result["status"] == "completed" and "warnings" not in result
    assert_equal_arrays(final_arrays(paths), final_arrays(undisturbed))
    assert checkpoint.updates(paths.checkpoints) == checkpoint.updates(undisturbed.checkpoints)
    position = [checkpoint.read_meta(checkpoint.last(one.checkpoints))["position"] for one in (paths, undisturbed)]
    assert position[0] == position[1]
    assert events(paths) == events(undisturbed)


@LONG
def test_three_kills_in_a_row_change_nothing(careful, undisturbed, normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    for call in (8, 7, 9):
        Halted("train", careful, root, "graphufs.train.train_step", "Program.__call__", call, "after").kill()
    assert run_step("train", careful, root)["status"] == "completed"
    assert_equal_arrays(final_arrays(Paths(careful, root)), final_arrays(undisturbed))


def test_the_last_the_best_and_the_stage_ends_are_kept(careful, undisturbed):
    there = checkpoint.updates(undisturbed.checkpoints)
    best = checkpoint.read_meta(checkpoint.last(undisturbed.checkpoints))["position"]["best"]
    scores = {line["update"]: line["score"] for line in events(undisturbed) if line["event"] == "forecasts"}
    assert list(scores) == [7, 14, 21, 22, 26]
    assert best == {"score": min(scores.values()), "update": min(scores, key=scores.get)}
    assert there == sorted({22, 24, 26, best["update"]})


def test_forecasts_take_the_last_or_the_best_checkpoint(careful, undisturbed):
    assert finished_checkpoint(undisturbed).name == "00000026"
    best = Paths(loading.load(TINY, [*SETTINGS, "forecast.checkpoint=best"]), undisturbed.root)
    assert best.run == undisturbed.run and best.forecasts != undisturbed.forecasts
    wanted = checkpoint.read_meta(checkpoint.last(undisturbed.checkpoints))["position"]["best"]["update"]
    assert finished_checkpoint(best) == checkpoint.place(undisturbed.checkpoints, wanted)
    assert ReplayEmulator.from_checkpoint(finished_checkpoint(best)).experiment == careful


def test_a_training_that_goes_on_elsewhere_says_what_differs(careful, undisturbed, copy_of_root):
    root = copy_of_root(undisturbed.root)
    paths = Paths(careful, root)
    shutil.rmtree(paths.checkpoints / "00000026")
    path = checkpoint.last(paths.checkpoints) / "meta.json"
    meta = read_checked(path)
    meta["environment"] |= {"cores": 96, "jaxlib": "0.9"}
    write_checked(path, meta)
    warning, gone, goes_on = run_step("train", careful, root)["warnings"]
    assert gone == "the checkpoint of update 26 is gone" and goes_on == "the training goes on from update 24"
    assert "goes on from update 24 elsewhere" in warning and "cores was 96" in warning and "jaxlib was '0.9'" in warning
    assert "to rounding only" in warning


def test_a_foreign_checkpoint_is_refused_by_name_and_of_a_torn_one_the_loss_is_told(careful, undisturbed, copy_of_root):
    root = copy_of_root(undisturbed.root)
    paths = Paths(careful, root)
    shutil.rmtree(paths.checkpoints / "00000026")
    path = checkpoint.last(paths.checkpoints)
    whole = (path / "meta.json").read_text()

    def refused(change, message):
        meta = read_checked(path / "meta.json")
        change(meta)
        write_checked(path / "meta.json", meta)
        with pytest.raises(UserError, match=message):
            run_step("train", careful, root)
        (path / "meta.json").write_text(whole)

    refused(lambda meta: meta["hashes"].update(run="0123456789ab"), r"00000024 belongs to the run 0123456789ab, not")
    refused(
        lambda meta: meta["loaders"]["rollout"].update(samples=4),
        r"other samples of stage 'rollout': samples 4 then, 37 now; restore .* or remove .*checkpoints to start over",
    )
    refused(lambda meta: meta.update(format=1), "has format 1; this version of graphufs reads 2")
    arrays = path / "training.npz"
    arrays.write_bytes(arrays.read_bytes()[:-100])
    result = run_step("train", careful, root)
    assert result["status"] == "completed"
    assert "update 24 cannot be used" in result["warnings"][0] and "goes on from update" in result["warnings"][1]
    assert_equal_arrays(final_arrays(paths), final_arrays(undisturbed))


def test_other_statistics_than_the_checkpoints_are_refused(careful, undisturbed, copy_of_root):
    import zarr

    root = copy_of_root(undisturbed.root)
    paths = Paths(careful, root)
    shutil.rmtree(paths.checkpoints / "00000026")
    store = next(path for path in paths.statistics().iterdir() if "diff" in path.name)
    array = zarr.open_group(store, mode="r+")["tmp"]
    array[...] = np.asarray(array) * 1.01
    note = paths.statistics() / PROVENANCE  # whole, by all checksums
    write_checked(note, read_checked(note) | {"files": files_of(paths.statistics(), without=PROVENANCE)})
    with pytest.raises(UserError, match=r"other statistics: diffs_std\.tmp changed"):
        run_step("train", careful, root)


def test_the_average_is_what_forecasts_use(careful, undisturbed):
    arrays = final_arrays(undisturbed)
    path = checkpoint.last(undisturbed.checkpoints)
    emulator, training = (checkpoint.read_arrays(path, name) for name in ("emulator.npz", "training.npz"))
    names = [name for name in emulator if name.startswith("network")]
    assert any((emulator[name] != training[name]).any() for name in names)
    assert set(names) < set(arrays)
