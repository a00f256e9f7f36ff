"""Time passes in the embedded world, by the night."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.nightly.extend_world import _first_night, notes_damage
from graphufs.replay.synthetic.store import present
from graphufs.replay.times import text
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from tests.conftest import TINY
from tests.support.experiments import experiment as look_alike

END = "1994-01-20T12"
"""Where tiny's world ends when it is prepared."""


def extend(root, night, *overrides):
    return run_step("extend_world", loading.load(TINY, overrides), root, request=loading.request({"night": night}))


def test_nights_are_counted_from_the_first_and_none_counts_twice(finished_root, copy_of_root):
    root = copy_of_root(finished_root)
    first = extend(root, "2026-03-01")
    assert first == {
        "step": "extend_world",
        "status": "completed",
        "present": "1994-01-21T12",
        "was": END,
        "night": "2026-03-01",
    }
    again = extend(root, "2026-03-01")
    assert (again["status"], again["present"], again["was"]) == ("unchanged", "1994-01-21T12", "1994-01-21T12")
    missed = extend(root, "2026-03-04")
    assert (missed["present"], missed["was"]) == ("1994-01-24T12", "1994-01-21T12")
    for earlier in ("2026-03-02", "2026-02-01"):
        late = extend(root, earlier)
        assert (late["status"], late["present"]) == ("unchanged", "1994-01-24T12")
    assert extend(root, "2026-03-05", "nightly.until=1994-01-24T18")["present"] == "1994-01-24T18"
    assert extend(root, "2026-03-06", "nightly.until=1994-01-24T18")["status"] == "unchanged"
    # `prepare` of what is there does not push the world on
    grown = loading.load(TINY, ["forecast.initial_times=[1994-01-23T06]"])
    assert run_step("prepare", grown, root)["missing"]["count"] == 0
    last = present(Paths(grown, root).world)
    assert last is not None and text(last) == "1994-01-24T18"


def test_each_experiment_name_has_its_own_first_night_and_pace(finished_root, copy_of_root):
    root = copy_of_root(finished_root)
    extend(root, "2026-03-01")
    assert extend(root, "2026-03-05", "name=other", "nightly.days_per_night=2")["present"] == "1994-01-23T12"
    assert extend(root, "2026-03-03")["status"] == "unchanged"  # the other one's nights have gone as far
    assert extend(root, "2026-03-04")["present"] == "1994-01-24T12"


def test_the_night_is_today_where_none_is_given(tiny, finished_root, copy_of_root):
    before = datetime.now(UTC).date()
    result = run_step("extend_world", tiny, copy_of_root(finished_root))
    assert result["night"] in {before.isoformat(), datetime.now(UTC).date().isoformat()}
    assert result["present"] == "1994-01-21T12"


def test_without_a_world_nothing_is_made_and_no_night_counted(tmp_path, tiny):
    result = run_step("extend_world", tiny, tmp_path)
    assert result["status"] == "unchanged" and "graphufs prepare" in result["message"]
    assert not any(tmp_path.iterdir())


def test_a_real_source_grows_by_itself(tmp_path):
    result = run_step("extend_world", look_alike("gs://somewhere/fv3.zarr"), tmp_path)
    assert result["status"] == "unchanged" and result["message"] == "the source grows by itself"


def test_a_damaged_note_of_the_first_night_is_an_error(finished_root, copy_of_root, tiny):
    root = copy_of_root(finished_root)
    note = Paths(tiny, root).world / "nights" / "tiny.json"
    note.parent.mkdir()
    note.write_text('{"first_night": "yesterday"}')
    with pytest.raises(UserError, match=r"tiny\.json cannot be read"):
        extend(root, "2026-03-01")


def test_what_is_done_to_the_note_of_the_first_night_or_its_copy_is_found_and_restored(tmp_path):
    note, copy = (tmp_path / "nights" / name for name in ("tiny.json", ".tiny.copy.json"))
    first = (date(2026, 3, 1), np.datetime64("1994-01-11T12"))

    def again():
        return _first_night(note, date(2026, 4, 1), np.datetime64("1995-01-01T00"))

    assert _first_night(note, *first) == first and notes_damage(tmp_path) == []
    whole = note.read_bytes()
    assert copy.read_bytes() == whole
    for path in (note, copy):
        changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
        for content in (*changed, *(whole[:end] for end in range(len(whole))), None):
            path.unlink() if content is None else path.write_bytes(content)
            (line,) = notes_damage(tmp_path)
            assert str(path) in line and "`graphufs extend-world`" in line
            if content is None or len(content) < len(whole) or content == changed[len(changed) // 2]:
                assert again() == first, "no night is counted anew"
                assert note.read_bytes() == copy.read_bytes() == whole
        path.write_bytes(whole)
    for path in (note, copy):
        path.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="remove .*, and nights are counted anew"):
        again()
    copy.unlink()  # as version 0.1.0 left it
    note.write_text('{"first_night": "2026-03-01", "end": "1994-01-11T12"}')
    assert notes_damage(tmp_path) == [] and again() == first
    assert note.read_bytes() == copy.read_bytes() == whole
