"""The registry: an append-only history that several may write and none can break."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from graphufs.errors import UserError
from graphufs.registry import event_files, registry
from graphufs.registry.registry import RegisteredModel, RegistryEvent
from graphufs.steps import run_step
from graphufs.storage.checksums import read_checked
from graphufs.storage.paths import Paths
from graphufs.weatherbench.results.scores import Scores
from tests.support.command import graphufs
from tests.support.killing import Halted

WRITER = """
import sys
from pathlib import Path
from graphufs.registry import registry
from graphufs.registry.registry import RegisteredModel, RegistryEvent

root, number = Path(sys.argv[1]), int(sys.argv[2])

def model(update):
    return RegisteredModel(f"demo-abc-{update}", "demo", "name: demo", "abc", "runs/demo/abc", "1", update, {}, {})

print("ready", flush=True)
sys.stdin.readline()
registry.register(root, model(0), "all of them")
for update in range(1, 6):
    registry.register(root, model(10 * number + update), "one of them")
    registry.append(root, lambda past: RegistryEvent("promoted", f"demo-abc-{10 * number + update}", "test"))
"""


def model(update: int, experiment: str = "demo", **changes: object) -> RegisteredModel:
    made = RegisteredModel(
        id=registry.model_id(experiment, "abc", update),
        experiment_name=experiment,
        experiment=f"name: {experiment}\n",
        run="abc",
        run_folder=f"runs/{experiment}/abc",
        checkpoint=f"{update:08d}",
        update=update,
        periods={"training": "1994-01-01T00..1994-12-31T18"},
        provenance={"commit": "0123"},
        scores={"rmse": [{"variable": "t", "emulator": {"24h": 1.5}}]},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def promote(root: Path, wanted: str) -> None:
    registry.append(root, lambda past: RegistryEvent("promoted", wanted, "test", "it is better"))


def roles(root: Path) -> dict[str, str]:
    return {model.id: model.role for model in registry.models(root)}


def test_a_root_without_models_has_none(tmp_path):
    assert registry.models(tmp_path) == [] and registry.champion(tmp_path, "demo") is None
    assert registry.choose(tmp_path, "demo", "champion") is None and registry.choose(tmp_path, "demo", "latest") is None
    with pytest.raises(UserError, match="no model 'demo-abc-1'; there are none yet"):
        registry.get(tmp_path, "demo-abc-1")
    assert not any(tmp_path.iterdir())


def test_a_registered_model_comes_back_as_it_was_given(tmp_path):
    entered, new = registry.register(tmp_path, model(5, parent="demo-abc-4"), "somebody")
    assert new and entered.role == "candidate" and entered.number == 1 and entered.registered.endswith("Z")
    assert replace(entered, registered="", number=0) == model(5, parent="demo-abc-4")
    assert registry.history(tmp_path)[0].by == "somebody"


def test_registering_again_changes_nothing_unless_the_scores_are_others(tmp_path):
    registry.register(tmp_path, model(5), "first")
    assert registry.register(tmp_path, model(5, parent="another"), "second") == (
        registry.get(tmp_path, model(5).id),
        False,
    )
    better = {"rmse": [], "initial_times": 3}
    entered, new = registry.register(tmp_path, model(5, scores=better), "third")
    assert new and entered.scores == better and entered.parent is None
    assert [event.kind for event in registry.history(tmp_path)] == ["registered", "scored"]
    assert registry.register(tmp_path, model(5, scores=better), "fourth")[1] is False


def test_a_promotion_retires_the_former_champion_of_that_experiment_only(tmp_path):
    for entry in (model(1), model(2), model(1, "other")):
        registry.register(tmp_path, entry, "test")
    for wanted in ("demo-abc-1", "other-abc-1", "demo-abc-2"):
        promote(tmp_path, wanted)
    assert roles(tmp_path) == {"demo-abc-1": "retired", "demo-abc-2": "champion", "other-abc-1": "champion"}
    promote(tmp_path, "demo-abc-1")  # as a rollback does
    assert roles(tmp_path) == {"demo-abc-1": "champion", "demo-abc-2": "retired", "other-abc-1": "champion"}
    registry.append(tmp_path, lambda past: RegistryEvent("refused", "demo-abc-1", "test"))
    assert registry.champion(tmp_path, "demo") is None


def test_champion_is_the_newest_candidate_until_there_is_one(tmp_path):
    for update in (7, 3):  # the later registration is the newer model
        registry.register(tmp_path, model(update), "test")
    chosen = {wanted: registry.choose(tmp_path, "demo", wanted) for wanted in ("champion", "latest", "demo-abc-7")}
    assert {wanted: found and found.id for wanted, found in chosen.items()} == {
        "champion": "demo-abc-3",
        "latest": "demo-abc-3",
        "demo-abc-7": "demo-abc-7",
    }
    promote(tmp_path, "demo-abc-7")
    registry.register(tmp_path, model(9), "test")
    registry.append(tmp_path, lambda past: RegistryEvent("refused", "demo-abc-9", "test"))
    for wanted, expected in (("champion", "demo-abc-7"), ("latest", "demo-abc-3")):
        found = registry.choose(tmp_path, "demo", wanted)
        assert found is not None and found.id == expected


def test_an_unknown_model_or_one_of_another_experiment_is_named(tmp_path):
    registry.register(tmp_path, model(1), "test")
    with pytest.raises(UserError, match="no model 'lates'; there are demo-abc-1"):
        registry.choose(tmp_path, "demo", "lates")
    with pytest.raises(UserError, match="belongs to the experiment demo, not to tiny"):
        registry.choose(tmp_path, "tiny", "demo-abc-1")
    with pytest.raises(UserError, match="no model 'demo-abc-2'"):
        promote(tmp_path, "demo-abc-2")
    assert len(registry.history(tmp_path)) == 1


def test_writers_at_the_same_time_lose_no_event_and_leave_one_champion(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(1, 5)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    events = registry.history(tmp_path)
    assert [event.number for event in events] == list(range(1, 1 + 4 * 10 + 1))  # the shared model once
    registered = [event.model for event in events if event.kind == "registered"]
    assert len(registered) == len(set(registered)) == 21
    (champion,) = [model.id for model in registry.models(tmp_path) if model.role == "champion"]
    assert champion == [event.model for event in events if event.kind == "promoted"][-1]
    assert not list((tmp_path / "registry" / "history").glob(".*"))


def test_a_decision_is_made_on_exactly_the_history_it_follows(tmp_path):
    registry.register(tmp_path, model(1), "test")
    registry.register(tmp_path, model(2), "test")
    seen = []

    def decide(past: list[RegistryEvent]) -> RegistryEvent | None:
        seen.append(len(past))
        if len(seen) == 1:
            promote(tmp_path, "demo-abc-2")  # somebody is faster
        champions = [model for model in registry.fold(past).values() if model.role == "champion"]
        return None if champions else RegistryEvent("promoted", "demo-abc-1", "test")

    assert registry.append(tmp_path, decide) is None
    assert seen == [2, 3] and roles(tmp_path)["demo-abc-2"] == "champion"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "00000001.json").unlink(), "event 1 of 2 is missing from"),
        (lambda folder: (folder / "00000002.json").write_text("{"), "is not an event"),
        (lambda folder: (folder / "00000001.json").rename(folder / "00000003.json"), "event 1 of 3 is missing from"),
        (lambda folder: (folder / "00000002.json").write_text((folder / "00000001.json").read_text()), "holds event 1"),
    ],
)
def test_from_a_damaged_history_nothing_is_concluded(tmp_path, spoil, words):
    registry.register(tmp_path, model(1), "test")
    registry.register(tmp_path, model(2), "test")
    whole = registry.models(tmp_path)
    spoil(tmp_path / "registry" / "history")
    with pytest.raises(UserError, match=words):
        registry.models(tmp_path)
    with pytest.raises(UserError, match=words):
        registry.register(tmp_path, model(3), "test")
    shown: list[str] = []
    if "of 3" not in words:  # of an event 3 there was never a copy
        assert registry.models(tmp_path, None, shown) == whole and len(shown) == 1
        assert words in shown[0] and "`graphufs models repair`" in shown[0]


def test_an_event_of_a_newer_version_is_not_passed_over(tmp_path):
    registry.register(tmp_path, model(1), "test")
    path = tmp_path / "registry" / "history" / "00000002.json"
    event = {**read_checked(path.parent / "00000001.json"), "number": 2, "kind": "merged"}
    path.write_text(json.dumps(event))
    with pytest.raises(UserError, match="kind 'merged'"):
        registry.champion(tmp_path, "demo")


def test_a_damaged_or_lost_event_is_refused_and_restored_from_its_copy(tmp_path):
    for update in (1, 2, 3):
        registry.register(tmp_path, model(update), "test")
    before = {path: path.read_bytes() for path in (tmp_path / "registry").rglob("*.json")}
    assert len(before) == 6 and event_files.damage(tmp_path) == []
    for path, whole in before.items():
        for content in (whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], whole[:-1], None, "FIFO", "huge"):
            path.unlink()
            if content == "FIFO":  # whose readers wait for a writer
                os.mkfifo(path)
            elif content == "huge":
                path.touch()
                os.truncate(path, 2**40)
            elif content is not None:
                path.write_bytes(content)
            (line,) = event_files.damage(tmp_path)
            assert str(path) in line
            if path.parent.name == "history":
                with pytest.raises(
                    UserError, match=f"{path.name}|event {int(path.stem)} of 3.*`graphufs models repair`"
                ):
                    registry.models(tmp_path)
            assert event_files.repair(tmp_path) == [path]
            assert path.read_bytes() == whole
    history, copy = (
        tmp_path / "registry" / "history" / "00000002.json",
        tmp_path / "registry" / "copies" / "00000002.json",
    )
    history.write_text("{")
    copy.write_text("{")
    with pytest.raises(UserError, match="and its copy are both damaged"):
        event_files.repair(tmp_path)


# the step and the command line ----------------------------------------------------------------------------------------


def test_the_step_registers_the_training_with_its_scores_once(tiny, finished_root, copy_of_root):
    root = copy_of_root(finished_root)
    paths = Paths(tiny, root)
    result = run_step("register", tiny, root)
    wanted = f"tiny-{paths.run.name}-16"
    assert (result["status"], result["model"], result["role"]) == ("completed", wanted, "candidate")
    assert (root / result["checkpoint"] / "emulator.npz").is_file()
    scores = Scores.open(paths.scores)
    entry = result["scores"]["rmse"][1]
    assert (entry["variable"], entry["level"]) == ("temperature", 500.0)
    for name in ("emulator", "persistence"):
        expected = scores.values("rmse", name, scores.channels[1])[-1]
        assert entry[name]["24h"] == pytest.approx(expected, rel=1e-5)
    assert result["scores"]["initial_times"] == 10
    assert result["scores"]["period"] == "1994-01-13T06..1994-01-17T18"
    assert run_step("register", tiny, root)["status"] == "unchanged"
    assert len(registry.history(root)) == 1
    found = registry.get(root, wanted)
    assert found.periods["climatology"] == "1994-01-01T00..1994-01-10T18" and "jax" in found.provenance["versions"]


def test_keys_of_a_source_stay_out_of_the_registry(tiny, finished_root, copy_of_root):
    root = copy_of_root(finished_root)
    source = tiny.data.source.model_copy(update={"storage_options": {"secret": "hunter2"}})
    secretive = tiny.model_copy(update={"data": tiny.data.model_copy(update={"source": source})})
    run_step("register", secretive, root)
    assert not any("hunter2" in path.read_text() for path in (root / "registry").rglob("*.json"))


def test_what_is_not_evaluated_cannot_be_registered(tiny, normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    with pytest.raises(UserError, match="graphufs evaluate"):
        run_step("register", tiny, root)
    assert not (root / "registry").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_the_event_it_is_there_as_a_whole_or_not_at_all(tiny, finished_root, copy_of_root, moment):
    root = copy_of_root(finished_root)
    Halted("register", tiny, root, "os", "link", 1, moment).kill()
    there = {"before": [], "after": ["registered"]}[moment]
    assert [event.kind for event in registry.history(root)] == there
    assert run_step("register", tiny, root)["status"] == {"before": "completed", "after": "unchanged"}[moment]
    assert [event.kind for event in registry.history(root)] == ["registered"]


def test_the_command_line_lists_and_shows_models(tmp_path):
    table = {"initial_times": 3, "period": "a..b", "grid": "64x32"}
    rmse = [{"variable": "t", "level": 500, "units": "K", "emulator": {"24h": 1.5}, "persistence": {"24h": None}}]
    registry.register(tmp_path, model(1, scores={**table, "rmse": rmse}), "somebody")
    promote(tmp_path, "demo-abc-1")
    listed = graphufs("models", "list", "--root", tmp_path)
    assert listed.returncode == 0 and ["demo-abc-1", "champion"] == listed.stdout.splitlines()[1].split()[:2]
    assert json.loads(graphufs("models", "list", "other", "--root", tmp_path, "--json").stdout) == []
    shown = graphufs("models", "show", "demo-abc-1", "--root", tmp_path)
    assert all(words in shown.stdout for words in ("t 500 (K)", "1.5", "registered by somebody", "it is better"))
    as_json = json.loads(graphufs("models", "show", "demo-abc-1", "--root", tmp_path, "--json").stdout)
    assert as_json["role"] == "champion" and [event["kind"] for event in as_json["history"]] == [
        "registered",
        "promoted",
    ]
    unknown = graphufs("models", "show", "demo", "--root", tmp_path)
    assert unknown.returncode == 2 and "there are demo-abc-1" in unknown.stderr and "Traceback" not in unknown.stderr
