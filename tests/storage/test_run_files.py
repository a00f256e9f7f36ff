"""The single files of a run folder: what is done to each is found, and the metrics lose damaged lines alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graphufs.errors import UserError
from graphufs.nightly.scores import NightlyScores
from graphufs.storage import run_files
from graphufs.train import metrics_file
from graphufs.train.metrics_file import MetricsFile

NIGHT = "nightly/00000016"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with one of each kind of file."""
    run_files.keep(tmp_path, run_files.EXPERIMENT, f"{run_files.PROMISE}name: tiny\n")
    MetricsFile(tmp_path / run_files.METRICS, 0).write("update", 10, {"loss": 0.5})
    run_files.note(tmp_path, run_files.METRICS)
    for name in ("initial.json", "comparisons/a.json", "comparisons/a.html", "reports/ab.html"):
        run_files.keep(tmp_path, name, f"of {name}\n")
    place = NightlyScores(tmp_path / NIGHT)
    place.note_holes({"1994-01-14T06": "no data"})
    place.note_latest({"model": "tiny"})
    run_files.keep(tmp_path, f"{NIGHT}/report.html", "a page\n")
    return tmp_path


def flips(content: bytes) -> list[bytes]:
    """The content with each single byte changed."""
    return [content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :] for at in range(len(content))]


def test_each_flipped_byte_each_cut_and_each_loss_of_each_file_is_found_with_what_repairs_it(run: Path) -> None:
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} - {".checksums.lock"}
    assert len(names) == 10 and run_files.present(run) == names - {"checksums.json"}
    assert list(run_files.all_damage(run)) == []
    for name in names:
        path, whole = run / name, (run / name).read_bytes()
        for content in (*flips(whole), *(whole[:end] for end in range(0, len(whole), 7)), None):
            path.unlink() if content is None else path.write_bytes(content)
            lines = list(run_files.all_damage(run))
            assert lines and all(str(path) in line and "`graphufs " in line for line in lines), (name, content)
        path.write_bytes(whole)
    assert list(run_files.all_damage(run)) == []


def test_what_was_appended_since_the_last_checkpoint_is_no_damage(run: Path) -> None:
    path = run / run_files.METRICS
    with path.open("a") as file:
        file.write('{"event": "upd')  # and was killed
    assert list(run_files.all_damage(run)) == [] and metrics_file.mend(path) is None
    assert [line["update"] for line in metrics_file.read(path)] == [10]


def test_a_list_that_is_lost_or_damaged_is_made_again_of_what_there_is(run: Path) -> None:
    path = run / "checksums.json"
    whole = path.read_text()
    odd = ('{"files": {"../x": "y"}}', '{"files": {"a": [1e999, 5]}}', "[]", '{"files": 3}')
    for content in (None, whole[:-9], whole.replace("ab.html", "cd.html"), *odd):
        path.unlink() if content is None else path.write_text(content)
        (line,) = run_files.all_damage(run)
        assert line.startswith(str(path)) and "`graphufs train`" in line
        run_files.mend_list(run)
        assert json.loads(path.read_text())["files"].keys() == json.loads(whole)["files"].keys()
    (run / run_files.EXPERIMENT).write_text("name: tiny\n")  # as version 0.1.0 wrote it
    path.unlink()
    run_files.mend_list(run)
    assert not path.exists() and list(run_files.all_damage(run)) == []


def test_what_a_killed_process_wrote_and_did_not_list_is_listed_with_the_next(run: Path) -> None:
    (run / "reports" / "cd.html").write_text("a page")
    assert run_files.damage(run, "reports/cd.html") is None
    run_files.keep(run, "reports/ef.html", "a page")
    (run / "reports" / "cd.html").write_text("a pace")
    assert "cd.html has changed" in str(run_files.damage(run, "reports/cd.html"))


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda text: text.replace('"loss": 0.2', '"loss": 0.3'), [10, 30]),
        (lambda text: text.replace('"update": 20', '"update": 21'), [10, 30]),
        (lambda text: text[:-2], [10, 20]),
        (lambda text: text.replace("\n", "", 1), [30]),
    ],
)
def test_damaged_metrics_lose_the_damaged_lines_and_say_so(
    tmp_path: Path, change: Callable[[str], str], kept: list[int]
) -> None:
    path = tmp_path / run_files.METRICS
    file = MetricsFile(path, 0)
    for update, loss in ((10, 0.1), (20, 0.2), (30, float("nan"))):
        file.write("update", update, {"loss": loss})
    run_files.note(tmp_path, path.name)
    path.write_text(change(path.read_text()))
    assert [line["update"] for line in metrics_file.read(path)] == kept, "no reader takes a number that was changed"
    told = metrics_file.mend(path)
    assert told is not None and str(path) in told and f"{len(kept)} are kept" in told
    assert list(run_files.all_damage(tmp_path)) == [] and metrics_file.mend(path) is None
    path.unlink()
    assert "was lost" in str(metrics_file.mend(path)) and list(run_files.all_damage(tmp_path)) == []


def test_lines_of_version_0_1_0_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    path = tmp_path / run_files.METRICS
    path.write_text('{"event": "update", "update": 10, "loss": 0.5}\n')
    MetricsFile(path, 10).write("update", 20, {"loss": 0.4})
    assert metrics_file.read(path) == [
        {"event": "update", "update": 10, "loss": 0.5},
        {"event": "update", "update": 20, "loss": 0.4},
    ]


def test_damaged_notes_of_a_night_are_refused_and_written_again(run: Path) -> None:
    place = NightlyScores(run / NIGHT)
    for name, write in (
        ("holes.json", lambda: place.note_holes({"1994-01-14T06": "no data"})),
        ("latest.json", lambda: place.note_latest({"model": "tiny"})),
    ):
        path = run / NIGHT / name
        whole = path.read_bytes()
        for content in (whole.replace(b"n", b"m", 1), whole[:-3], None):
            path.unlink() if content is None else path.write_bytes(content)
            if name == "holes.json":
                with pytest.raises(UserError, match=f"{path} .*`graphufs plan-nightly`"):
                    place.holes()
            write()
            assert path.read_bytes() == whole and list(run_files.all_damage(run)) == []
