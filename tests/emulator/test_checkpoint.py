"""Checkpoints: exact, whole or absent, and refused when damaged or foreign."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.emulator import checkpoint
from graphufs.errors import UserError

TREE = {"w": jnp.arange(6, dtype=jnp.float32).reshape(2, 3), "count": jnp.int32(7)}


def write(folder, update=3):
    return checkpoint.save(folder, update, checkpoint.flatten(TREE, "params"), {"m": np.zeros(2)}, {"stage": "one"})


def test_a_tree_comes_back_bit_for_bit(tmp_path):
    path = write(tmp_path)
    back = checkpoint.unflatten(TREE, checkpoint.read_arrays(path, "emulator.npz"), "params", path)
    assert back["count"] == 7 and back["count"].dtype == jnp.int32
    np.testing.assert_array_equal(back["w"], TREE["w"])
    assert checkpoint.read_meta(path)["update"] == 3


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = write(tmp_path)
    content = bytearray((path / "emulator.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "emulator.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"emulator\.npz is damaged"):
        checkpoint.read_arrays(path, "emulator.npz")


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": TREE["w"]}, "in excess"),
        ({**TREE, "more": jnp.zeros(1)}, "is missing"),
        ({**TREE, "w": jnp.zeros((3, 2))}, "expected float32"),
        ({**TREE, "w": jnp.zeros((2, 3), jnp.int32)}, "expected int32"),
    ],
)
def test_another_networks_checkpoint_is_refused(tmp_path, like, message):
    path = write(tmp_path)
    with pytest.raises(UserError, match=message):
        checkpoint.unflatten(like, checkpoint.read_arrays(path, "emulator.npz"), "params", path)


def test_an_interrupted_save_leaves_nothing_that_looks_like_a_checkpoint(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def disk_full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 2)
    assert checkpoint.updates(tmp_path) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]


def test_pruning_keeps_what_is_asked_for(tmp_path):
    for update in (1, 2, 3):
        write(tmp_path, update)
    checkpoint.prune(tmp_path, {1, 3})
    assert checkpoint.updates(tmp_path) == [1, 3]


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        checkpoint.read_meta(tmp_path)


def test_each_damaged_file_is_named_and_an_older_description_is_read(tmp_path):
    path = write(tmp_path)
    assert checkpoint.damage(path) is None
    for name in ("meta.json", "emulator.npz", "training.npz"):
        whole = (path / name).read_bytes()
        for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), None):
            (path / name).unlink() if content is None else (path / name).write_bytes(content)
            assert name in checkpoint.damage(path)
            with pytest.raises(UserError, match=name):
                checkpoint.read_arrays(path, name if name != "meta.json" else "emulator.npz")
        (path / name).write_bytes(whole)
    meta = checkpoint.read_meta(path)
    (path / "meta.json").write_text(json.dumps(meta))  # without a checksum
    assert checkpoint.damage(path) is None and checkpoint.read_meta(path) == meta
    del meta["sha256"]
    (path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="has no sha256"):
        checkpoint.read_arrays(path, "emulator.npz")


def test_a_checkpoint_in_the_folder_of_another_run_or_update_is_refused(tmp_path):
    folder = tmp_path / "runs" / "demo" / "0123456789ab" / "checkpoints"
    own = checkpoint.save(folder, 3, {}, {}, {"hashes": {"run": "0123456789ab"}})
    assert checkpoint.read_meta(own)["update"] == 3
    foreign = checkpoint.save(folder, 6, {}, {}, {"hashes": {"run": "ba9876543210"}})
    with pytest.raises(UserError, match="00000006 belongs to the run ba9876543210, not 0123456789ab; remove it"):
        checkpoint.read_arrays(foreign, "emulator.npz")
    own.rename(folder / "00000009")
    with pytest.raises(UserError, match="00000009 is that of update 3"):
        checkpoint.read_meta(folder / "00000009")
    anywhere = foreign.rename(tmp_path / "mine")
    assert checkpoint.read_meta(anywhere)["update"] == 6, "a copy of one's own"
