"""The store of compiled programs: whole entries whoever writes and reads at once, a bounded size, JAX's own calls."""

from __future__ import annotations

import os
import threading
import warnings

import jax
import jax.numpy as jnp
import pytest

from graphufs.model import compilation_cache
from graphufs.model.compilation_cache import SUFFIX, ProgramStore
from graphufs.model.compile import jit


@pytest.fixture
def cache(tmp_path):
    """JAX's cache in a folder of its own; elsewhere again afterwards."""
    from jax._src.compilation_cache import reset_cache

    wanted = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    for settings in (wanted, before):
        for name, value in settings.items():
            jax.config.update(name, value)
        reset_cache()
        if settings is wanted:
            yield tmp_path


def compiled():
    """Compile the same program, anew for JAX."""

    def cubes(values):
        return values**3 + 1

    return jit(cubes)(jnp.arange(4.0)).tolist()


def test_jax_keeps_its_programs_there_and_compiles_anew_what_is_damaged(cache):
    assert compilation_cache.install()  # else JAX has changed, and its own store is used
    assert compiled() == [1, 2, 9, 28]
    (entry,) = cache.glob(f"jit_cubes-*{SUFFIX}")
    whole = entry.read_bytes()
    read_before = entry.stat().st_mtime_ns
    os.utime(entry, ns=(0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled() == [1, 2, 9, 28]
    assert entry.stat().st_mtime_ns >= read_before and entry.read_bytes() == whole
    for damage in (whole[: len(whole) // 2], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        entry.write_bytes(damage)
        with pytest.warns(UserWarning, match="damaged"):
            assert compiled() == [1, 2, 9, 28]
        assert ProgramStore(cache).get(entry.name.removesuffix(SUFFIX))


def test_who_reads_while_others_write_sees_whole_entries(tmp_path):
    values = [bytes([number]) * 1_000_000 for number in range(3)]
    stores, found = [ProgramStore(tmp_path) for _ in range(4)], set()

    def write(store, value):
        for _ in range(10):
            store.put("jit_update-0", value)

    writers = [threading.Thread(target=write, args=pair) for pair in zip(stores, values, strict=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            found.add(stores[3].get("jit_update-0"))
        found.add(stores[3].get("jit_update-0"))
    assert found - {None} and found - {None} <= set(values)
    assert [path.name for path in tmp_path.iterdir()] == [f"jit_update-0{SUFFIX}"]


def test_what_was_used_longest_ago_makes_room(tmp_path):
    store = ProgramStore(tmp_path, most_bytes=1000)
    for age, key in ((300, "old"), (200, "read again"), (100, "new")):
        store.put(key, bytes(200))
        used = (tmp_path / f"{key}{SUFFIX}").stat().st_mtime - age
        os.utime(tmp_path / f"{key}{SUFFIX}", (used, used))
    assert store.get("read again")
    store.put("newest", bytes(400))
    assert [key for key in ("old", "read again", "new", "newest") if store.get(key)] == ["read again", "new", "newest"]
    store.put("too large for all", bytes(1000))
    assert store.get("too large for all") is None and store.get("newest")
