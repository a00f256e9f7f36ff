"""What the root holds, and files handed out of it and of nowhere else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from datetime import UTC, datetime

import pytest

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.registry import event_files, registry
from jobs import catalogue, hand_out
from jobs.catalogue_limits import LIMITS, limited
from jobs.hand_out import fetch
from jobs.job import usage
from tests.jobs import job_of


@pytest.fixture
def root(tmp_path):
    """A root with a file, a folder, and links that lead out of it; outside lies a secret."""
    root = tmp_path / "root"
    (root / "runs" / "one").mkdir(parents=True)
    (root / "runs" / "one" / "report.html").write_text("a report")
    (root / "runs" / "one" / "notes.txt").write_text("notes")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "inner").symlink_to(root / "runs" / "one" / "report.html")
    return root


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "link", "folder/secret", "folder", "runs/../../secret"])
def test_nothing_outside_the_root_is_handed_out(root, tmp_path, name, capfdbinary):
    with pytest.raises(UserError, match="is outside"):
        fetch(root, name, tmp_path / "copy")
    with pytest.raises(UserError, match="is outside"):
        fetch(root, name, None)
    assert not (tmp_path / "copy").exists() and capfdbinary.readouterr().out == b""


def test_a_sister_whose_name_begins_alike_is_outside(root, tmp_path):
    (tmp_path / "root-of-another").mkdir()
    (tmp_path / "root-of-another" / "secret").write_text("secret")
    with pytest.raises(UserError, match="is outside"):
        fetch(root, "../root-of-another/secret", None)


def test_a_link_inside_a_folder_takes_nothing_from_outside_along(root, tmp_path):
    (root / "runs" / "one" / "stolen").symlink_to(tmp_path / "secret")
    (root / "runs" / "one" / "stolen-folder").symlink_to(tmp_path / "outside")
    try:
        fetch(root, "runs/one", tmp_path / "copy")
    except UserError:
        assert not (tmp_path / "copy").exists()
    copied = [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and not path.is_symlink()]
    assert "secret" not in {path.read_text() for path in copied}


def test_a_file_is_copied_to_a_file_or_into_a_folder(root, tmp_path):
    assert fetch(root, "runs/one/report.html", tmp_path / "mine.html") == 8
    (tmp_path / "mine").mkdir()
    fetch(root, "inner", tmp_path / "mine")
    assert (tmp_path / "mine.html").read_text() == (tmp_path / "mine" / "report.html").read_text() == "a report"
    assert sorted(os.listdir(tmp_path / "mine")) == ["report.html"]


def test_a_root_behind_a_link_is_the_same_root(root, tmp_path):
    (tmp_path / "alias").symlink_to(root)
    assert fetch(tmp_path / "alias", str(tmp_path / "alias" / "inner"), tmp_path / "copy") == 8


def test_a_folder_is_copied_whole_and_replaces_nothing(root, tmp_path):
    assert fetch(root, "runs", tmp_path / "deep" / "copy") == 13
    assert (tmp_path / "deep" / "copy" / "one" / "notes.txt").read_text() == "notes"
    with pytest.raises(UserError, match="exists already"):
        fetch(root, "runs", tmp_path / "deep" / "copy")
    with pytest.raises(UserError, match="--to"):
        fetch(root, "runs", None)


def test_a_file_goes_to_standard_output_byte_for_byte(root, capfdbinary):
    content = bytes(range(256)) * 10
    (root / "bytes").write_bytes(content)
    assert fetch(root, "bytes", None) == len(content)
    assert capfdbinary.readouterr().out == content


def test_a_file_travels_in_json_unless_it_is_too_large_or_outside(root):
    content = bytes(range(256))
    (root / "bytes").write_bytes(content)
    packed = hand_out.packed(root, "bytes", 256)
    assert base64.b64decode(packed["base64"]) == content and packed["bytes"] == 256
    assert packed["sha256"] == hashlib.sha256(content).hexdigest()
    with pytest.raises(UserError, match="256 bytes, more than the limit of 255"):
        hand_out.packed(root, "bytes", 255)
    with pytest.raises(UserError, match="is not a file"):
        hand_out.packed(root, "runs", 255)
    for name in ("../secret", "link", "folder/secret"):
        with pytest.raises(UserError, match="is outside"):
            hand_out.packed(root, name, 255)


def test_what_is_not_there_is_bad_input(root, tmp_path):
    with pytest.raises(UserError, match="there is no nothing below"):
        fetch(root, "nothing", None)


def test_a_place_that_cannot_be_written_is_bad_input(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        fetch(root, "inner", tmp_path / "file" / "copy")


def test_the_catalogue_of_an_empty_root_has_the_shipped_experiments(tmp_path):
    content = catalogue.catalogue(tmp_path)
    assert {"tiny", "p0"} <= set(content["experiments"]) and content["runs"] == []


def test_a_run_is_told_with_how_far_it_is_and_what_was_made_of_it(tmp_path):
    run = tmp_path / "runs" / "tiny" / "0123"
    for name in ("checkpoints/00000006", "checkpoints/00000016", "checkpoints/.00000017.tmp", "forecasts/ab.zarr"):
        (run / name).mkdir(parents=True)
    (run / "experiment.yaml").write_text("")
    lines = ['{"event": "update", "update": 16, "loss": 1.0}', '{"event": "validation", "update": 16, "loss": 0.5}']
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (found,) = catalogue.catalogue(tmp_path)["runs"]
    assert (found["experiment"], found["run"], found["updates"], found["validation_loss"]) == ("tiny", "0123", 16, 0.5)
    assert (found["checkpoints"], found["forecasts"], found["scores"]) == ([6, 16], ["ab.zarr"], [])


def test_models_nights_and_files_to_look_at_are_told(tmp_path):
    model = {"id": "tiny-ab-16", "experiment_name": "tiny", "experiment": "name: tiny\n", "run": "ab", "update": 16,
             "run_folder": "runs/tiny/ab", "checkpoint": "00000016", "periods": {}, "provenance": {}}  # fmt: skip
    registry.register(tmp_path, registry.RegisteredModel(**model), "somebody")
    registry.append(
        tmp_path, lambda past: registry.RegistryEvent("refused", "tiny-ab-16", "me", "too old", {"because": 1})
    )
    run = tmp_path / "runs" / "tiny" / "ab"
    for name in ("reports/cd.html", "reports/.cd.html.1.tmp", "nightly/00000016/report.html", "metrics.jsonl"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{}" if name == "metrics.jsonl" else "page")
    (run / "nightly" / "00000016" / "latest.json").write_text('{"model": "tiny-ab-16", "initial_times": 3}')
    found = catalogue.catalogue(tmp_path)
    assert [(one["id"], one["role"]) for one in found["models"]] == [("tiny-ab-16", "retired")]
    told = [(one["kind"], one["by"], one["why"], one["content"]) for one in reversed(found["history"])]
    assert told[0] == ("registered", "somebody", "trained and evaluated", {}), "the model itself is told of elsewhere"
    assert told[1] == ("refused", "me", "too old", {"because": 1})
    assert "experiment" not in found["models"][0] and found["champions"] == {} and found["warnings"] == []
    assert found["nightly"] == [{"model": "tiny-ab-16", "initial_times": 3}]
    paths = {one["path"]: one["bytes"] for one in found["files"]}
    assert paths == {"runs/tiny/ab/reports/cd.html": 4, "runs/tiny/ab/nightly/00000016/report.html": 4}
    (tmp_path / "registry" / "history" / "00000001.json").write_text("broken")
    damaged = catalogue.catalogue(tmp_path)  # the event's copy is whole
    assert damaged["models"] == found["models"] and damaged["files"] == found["files"]
    (warning,) = damaged["warnings"]
    assert "`graphufs models repair`" in warning
    (tmp_path / "registry" / "copies" / "00000001.json").write_text("broken")
    damaged = catalogue.catalogue(tmp_path)
    assert damaged["models"] == [] and "00000001.json is not an event" in damaged["warnings"][0]
    assert damaged["files"] == found["files"]


def filled(root, models, decisions):
    """A root with so many registered models, the fourth a champion, each with a run, and decisions that held them."""
    for number in range(1, models + 1):
        run = root / "runs" / "tiny" / f"{number:06}"
        run.mkdir(parents=True)
        (run / "experiment.yaml").write_text("")
        os.utime(run / "experiment.yaml", (number, number))
        content = {"id": f"m{number}", "experiment_name": "tiny", "experiment": "name: tiny\n", "run": run.name,
                   "run_folder": f"runs/tiny/{run.name}", "checkpoint": "1", "update": 1, "periods": {},
                   "provenance": {}, "scores": {"rmse": [{"variable": "t", "emulator": {"6h": 1.0}}] * 16}}  # fmt: skip
        event(root, number, "registered", f"m{number}", content)
    event(root, models + 1, "promoted", "m4", {})
    evidence = {"evidence": {"findings": [{"variable": "t", "lead": "6h", "champion": 1.0}] * 16}}
    for number in range(1, decisions + 1):
        event(root, models + 1 + number, "held", f"m{number}", evidence)


def event(root, number, kind, model, content):
    path = event_files.event_file(root, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.fromtimestamp(number, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    whole = {"format": 1, "kind": kind, "model": model, "by": "me", "why": "", "content": content, "when": when}
    path.write_text(json.dumps({**whole, "number": number}))


def test_the_newest_are_told_with_champions_first_and_how_many_there_are_besides(tmp_path, monkeypatch):
    for part, most in (("models", 4), ("history", 5), ("runs", 3)):
        monkeypatch.setitem(LIMITS, part, (most, *LIMITS[part][1:]))
    filled(tmp_path, 12, 9)
    found = catalogue.catalogue(tmp_path)
    assert [one["id"] for one in found["models"]] == ["m4", "m12", "m11", "m10"] and found["champions"] == {
        "tiny": "m4"
    }
    assert [one["number"] for one in found["history"]] == [13, 22, 21, 20, 19]
    assert [one["run"] for one in found["runs"]] == ["000012", "000011", "000010"]
    assert found["older"] == {"models": 8, "history": 17, "runs": 9} and found["warnings"] == []
    monkeypatch.setitem(LIMITS, "models", (4, 3000, "registered"))
    assert len(catalogue.catalogue(tmp_path)["models"]) < 4, "so many bytes, too"
    again = limited(limited(found))
    assert again["older"]["history"] == 17 and again["history"] == found["history"]


@pytest.mark.long
def test_a_root_of_five_thousand_models_and_decisions_is_told_within_bounds(tmp_path):
    filled(tmp_path, 5000, 5000)
    began = time.process_time()
    found = catalogue.catalogue(tmp_path)
    took = time.process_time() - began
    size = len(json.dumps(found, separators=(",", ":")))
    print(f"{took:.1f} s, {size / 2**20:.2f} MiB")
    assert found["older"]["models"] == 4800 and size < 8 * 2**20 and took < 60


def test_jobs_that_are_not_over_are_told_with_what_they_used(fake, tmp_path, monkeypatch):
    job_of(tmp_path, "open", step="train")
    job_of(tmp_path, "done", result=True)
    job_of(tmp_path, "refused", phase="refused")
    fake.row("RUNNING")
    used = {"gpu_hours": 1.5, "queue_wait": 60.0}
    content = {"used": usage.used([used, {}, {**used, "queue_wait": None}])}
    monkeypatch.setattr(usage, "history", lambda job: content)
    (found,) = catalogue.catalogue(tmp_path)["jobs"]
    assert (found["key"], found["step"], found["state"]) == ("open", "train", "RUNNING")
    assert (found["segments"], found["gpu_hours"], found["queue_wait"]) == (3, 3.0, 60.0)
    assert found["energy"] is None, "not accounted is not none used"
    assert not {"result", "folder"} & set(found)
    monkeypatch.setattr(catalogue, "MOST_JOBS", 0)
    (bare,) = catalogue.catalogue(tmp_path)["jobs"]
    assert bare["state"] == "RUNNING" and bare["gpu_hours"] is None


def test_accounting_is_asked_for_energy_too_and_what_is_no_number_of_joules_is_none(fake, tmp_path):
    job = job_of(tmp_path, id="12")
    times = "2024-01-01T00:00:00|2024-01-01T00:00:00|2024-01-01T00:01:00|2024-01-01T01:01:00|3600"
    row = f"{{id}}|COMPLETED|{times}|node1|{{tres}}|2|00:10|0:0|{{j}}"
    allocation = row.format(id="12", tres="billing=2,gres/gpu=2", j="0")
    for joules, kwh in (("7200000", 2.0), ("18446744073709551614", None), ("", None), ("0", None)):
        fake.say("sacct", allocation + "\n" + row.format(id="12.batch", tres="", j=joules))
        (segment,) = usage.history(job)["segments"]
        assert (segment["energy"], segment["gpu_hours"], segment["queue_wait"]) == (kwh, 2.0, 60.0)
    assert usage.history(job)["used"]["gpu_hours"] == 2.0


def test_an_experiment_is_a_file_or_the_name_of_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert loading.experiment_of("tiny", []).name == "tiny"
    (tmp_path / "tiny").write_text((loading.EXPERIMENTS / "tiny.yaml").read_text().replace("name: tiny", "name: mine"))
    assert loading.experiment_of("tiny", []).name == "mine"
    with pytest.raises(UserError, match="cannot read the experiment tyni"):
        loading.experiment_of("tyni", [])
