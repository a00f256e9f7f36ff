"""The demo's own part: what it asks Airflow for, what it says, and when it does nothing. Airflow itself is played."""

from __future__ import annotations

import io
import os
import signal
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from devstack.airflow import follow
from devstack.airflow.api import ApiError
from graphufs.cli.ending import STOPPED
from graphufs.cli.terminal import handled
from graphufs.config import loading
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import WindowReader
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import Stopped
from graphufs.nightly.scores import NightlyScores
from graphufs.replay.synthetic.store import STORE
from graphufs.storage.atomic import write_json
from graphufs.storage.paths import Paths
from graphufs.train.devices import Devices
from graphufs.train.stages import Plan
from graphufs.train.train_step import Objective
from jobs.job.folder import JobFolder
from jobs.job.records import now
from scripts import programs_ahead, run_demo, world_ahead
from scripts.demo_timings import Timings


class PlayedAirflow:
    """An Airflow in which runs come to the states that are listed for them, and everything asked is remembered."""

    def __init__(self, states: dict[str, list[str]], tasks: list[dict] | None = None) -> None:
        self.states, self.tasks, self.asked = states, tasks or [], []
        self.existing: set[str] = set()

    def paused(self, dag):
        return True

    def trigger(self, dag, conf, run):
        self.asked.append(("trigger", dag, run))
        if dag in self.existing:
            raise ApiError(409, "there is one")

    def unpause(self, dag):
        self.asked.append(("unpause", dag))

    def pause(self, dag):
        self.asked.append(("pause", dag))

    def request(self, method, path):
        return {}

    def clear_failed(self, dag, run):
        self.asked.append(("clear", dag, run))

    def state(self, dag, run):
        left = self.states[dag]
        return left.pop(0) if len(left) > 1 else left[0]

    def task_instances(self, dag, run):
        return self.tasks

    def xcom(self, dag, run, task, key, map_index):
        assert key == "job"
        return {"train": "the-key"}.get(task)

    def log(self, dag, run, task, attempt, map_index):
        return [{"event": "begun"}, {"event": "oh", "error_detail": [{"exc_type": "E", "exc_value": "no room\nmore"}]}]


def task(name: str, state: str | None, **more: object) -> dict:
    return {"task_id": name, "map_index": -1, "state": state, "try_number": 1, "duration": None, **more}


@pytest.fixture
def heard() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def demo(tmp_path: Path, heard: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> run_demo.Demo:
    monkeypatch.setattr(run_demo, "Follower", partial(follow.Follower, every=0))
    return run_demo.Demo("tiny", [], tmp_path / "root", Console(file=heard, width=200))


def played(monkeypatch: pytest.MonkeyPatch, demo: run_demo.Demo, api: PlayedAirflow) -> None:
    class Stack:
        url, base, home = "http://here", demo.root / "airflow", demo.root / "airflow" / "airflow"

    Stack.api = api

    @contextmanager
    def running(root, say, borrow, first_wait):
        (root / "airflow").mkdir(parents=True, exist_ok=True)
        yield Stack(), True

    monkeypatch.setattr(run_demo, "running", running)
    monkeypatch.setattr(run_demo, "made_ahead", lambda *of: nullcontext())


def results(monkeypatch: pytest.MonkeyPatch, *found: bool) -> None:
    """Results that are there, or not, each time they are looked for."""
    left = list(found)
    place = NightlyScores(Path("nights"))

    def nights_of(experiment, root):
        return place if (left.pop(0) if len(left) > 1 else left[0]) else None

    monkeypatch.setattr(run_demo, "nights_of", nights_of)
    monkeypatch.setattr(run_demo.Demo, "show", lambda self, results: 0)


def test_the_same_experiment_asks_for_the_same_runs_and_another_one_for_others():
    def ids(*overrides: str, number: int = 1) -> set[str]:
        experiment = loading.load(run_demo.TOP / "experiments" / "tiny.yaml", list(overrides))
        return {run.id for run in run_demo.runs(experiment, Path("none"), "tiny", list(overrides), number)}

    assert ids() == ids() and len(ids()) == 1
    assert ids() != ids("training.seed=3") and ids() != ids("nightly.at_most=2")
    assert ids(number=2) == {f"{run}-2" for run in ids()}


def test_what_is_done_already_is_shown_without_an_airflow(demo, heard, monkeypatch):
    results(monkeypatch, True)
    write_json(demo.note, {"runs": [run.id for run in run_demo.runs(demo.experiment, demo.root, "tiny", [])]})
    assert demo.run() == 0 and "done already" in heard.getvalue()
    demo.overrides, demo.experiment = ["training.seed=3"], loading.load(
        run_demo.TOP / "experiments" / "tiny.yaml", ["training.seed=3"]
    )  # fmt: skip
    api = PlayedAirflow({dag: ["success"] for dag in ("normalization", "training", "nightly_evaluation")})
    played(monkeypatch, demo, api)
    assert demo.run() == 0 and api.asked, "another experiment is not done yet"


def test_what_will_happen_is_said_before_airflow_starts(demo, heard, monkeypatch):
    results(monkeypatch, False)

    @contextmanager
    def running(root, say, borrow, first_wait):
        said = heard.getvalue()
        assert str(root) in said and all(run.dag in said for run in run_demo.runs(demo.experiment, root, "tiny", []))
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(run_demo, "running", running)
    with pytest.raises(KeyboardInterrupt):
        demo.run()


def test_the_runs_follow_each_other_and_their_dags_are_left_paused_as_they_were(demo, monkeypatch):
    results(monkeypatch, False, True)
    api = PlayedAirflow({dag: ["running", "success"] for dag in ("normalization", "training", "nightly_evaluation")})
    played(monkeypatch, demo, api)
    assert demo.run() == 0
    assert [word[1] for word in api.asked if word[0] == "trigger"] == list(api.states)
    side_by_side = ["trigger", "unpause"] * 2 + ["pause"] * 2
    assert [word[0] for word in api.asked] == [*side_by_side, "trigger", "unpause", "pause"]
    assert demo.note.exists()


def test_a_run_that_failed_before_is_tried_again_and_one_that_fails_now_is_told(demo, heard, monkeypatch):
    results(monkeypatch, False, True)
    api = PlayedAirflow(
        {"normalization": ["success"], "training": ["failed", "failed", "success"], "nightly_evaluation": ["failed"]},
        [task("train", "failed"), task("evaluate", "upstream_failed")],
    )
    api.existing = {"normalization", "training"}
    played(monkeypatch, demo, api)
    with pytest.raises(run_demo.DemoFailed) as caught:
        demo.run()
    assert [word[1] for word in api.asked if word[0] == "clear"] == ["training"]
    first, reason, more, log, _ = str(caught.value).splitlines()
    assert (first, reason, more) == ("nightly_evaluation failed", "train: no room", "  more")
    assert log.endswith("/task_id=train/attempt=1.log") and "normalization: done already" in heard.getvalue()
    assert not demo.note.exists()


def test_runs_whose_results_are_gone_are_done_again_under_another_id(demo, monkeypatch):
    results(monkeypatch, False, False, True)
    dags = ("normalization", "training", "nightly_evaluation")
    api = PlayedAirflow({dag: ["success"] for dag in dags})
    api.existing = set(dags)

    def trigger(dag, conf, run):
        api.asked.append(("trigger", dag, run))
        if not run.endswith("-2"):
            raise ApiError(409, "there is one")

    api.trigger = trigger
    played(monkeypatch, demo, api)
    assert demo.run() == 0
    assert [run.endswith("-2") for what, _, run in [word for word in api.asked if word[0] == "trigger"]] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


def test_a_followed_run_shows_its_tasks_and_its_jobs_progress(tmp_path, heard):
    job = JobFolder(tmp_path, "the-key")
    event = {"label": "one-step", "done": 5, "total": 5, "unit": "updates", "metrics": {"loss": 0.25}, "attempt": 1}
    write_json(job.path / "progress.json", {**event, "at": "2026-01-01T00:00:00Z"})
    api = PlayedAirflow({"training": ["running", "success"]}, [task("train", "deferred"), task("check", None)])
    follower = follow.Follower(api, tmp_path, Console(file=heard, width=200), every=0)
    assert follower.follow("training", "run") == "success"
    assert heard.getvalue().splitlines() == ["training", "train: one-step 5/5 updates  loss 0.25"]


def test_the_last_of_a_jobs_progress_is_shown_when_its_task_has_ended_already(tmp_path, heard):
    job = JobFolder(tmp_path, "the-key")

    def at(done: int) -> None:
        event = {"label": "x", "done": done, "total": 5, "unit": "updates", "metrics": {}, "attempt": 1, "at": now()}
        write_json(job.path / "progress.json", event)

    at(2)
    api = PlayedAirflow({"training": ["running", "running", "success"]})
    seen = iter([[task("train", "deferred")], [task("train", "success", duration=1.0)]])

    def task_instances(dag, run):
        api.tasks = next(seen, api.tasks)
        if api.tasks[0]["state"] == "success":
            at(5)
        return api.tasks

    api.task_instances = task_instances
    follow.Follower(api, tmp_path, Console(file=heard, width=200), every=0).follow("training", "run")
    assert [line.strip() for line in heard.getvalue().splitlines()] == [
        "training", "train: x 2/5 updates", "train: x 5/5 updates", "train: done in 1 s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "words"),
    [("success", "t[2]: done in 61 s"), ("failed", "t[2]: FAILED"), ("running", ""), (None, "")],
)
def test_what_is_said_of_a_task(state, words):
    assert follow.told(task("t", state, map_index=2, duration=60.6)) == words


def test_a_reason_is_the_last_exceptions_or_else_the_last_error():
    error = {"event": "Task failed", "level": "error"}
    details = [{"exc_type": "A", "exc_value": "first"}, {"exc_type": "B", "exc_value": "why\n\nmore"}]
    assert follow.reason([{"event": "x"}, {**error, "error_detail": details}, error]) == ["why", "more"]
    assert follow.reason([{**error, "error_detail": [{"exc_type": "KeyError", "exc_value": ""}]}]) == ["KeyError"]
    assert follow.reason([{"event": "x"}, error]) == ["Task failed"]
    assert follow.reason([]) == ["its log says nothing of it"]


def test_an_airflow_that_is_silent_for_a_moment_is_asked_again_and_what_it_refuses_is_told(tmp_path, heard):
    api = PlayedAirflow({"training": ["success"]})
    answers = iter([OSError("refused"), ApiError(503, "starting"), "success"])

    def state(dag, run):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    api.state = state
    follower = follow.Follower(api, tmp_path, Console(file=heard), every=0)
    assert follower.follow("training", "run") == "success"
    answers = iter([ApiError(404, "no such run")])
    with pytest.raises(ApiError, match="no such run"):
        follower.follow("training", "run")


def test_where_the_time_went_is_told_of_the_demo_and_of_each_task_and_its_job(tmp_path, heard):
    job = JobFolder(tmp_path, "the-key")
    job.folder(1).mkdir(parents=True)
    write_json(job.folder(1) / "attempt.json", {})
    job.add_segment(1, segment="a", start="2026-01-01T00:00:02Z")
    job.add_segment(1, segment="a", end="2026-01-01T00:00:05Z")
    at = "2026-01-01T00:00:{:02}+00:00".format
    tasks = [task("train", "success", start_date=at(1), end_date=at(9)), task("skipped", "skipped")]
    api = PlayedAirflow({}, tasks)
    api.request = lambda method, path: {"queued_at": at(0), "end_date": at(10)}
    timings = Timings(began=datetime.fromisoformat(at(0)).timestamp())
    timings.add_run(api, tmp_path, "training", "run")
    assert timings.phases == [
        {"phase": "training", "since": 0.0, "seconds": 10.0},
        {"phase": "  train", "since": 1.0, "seconds": 8.0, "job": 3.0},
    ]
    Console(file=heard, width=100).print(timings.table())
    assert "train" in heard.getvalue() and "8.0" in heard.getvalue()


def test_a_map_of_the_first_forecast_is_drawn_when_its_task_has_ended(demo, heard, tmp_path):
    place = tmp_path / "forecasts.zarr"
    sizes = {"time": 1, "prediction_timedelta": 2, "level": 3, "latitude": 4, "longitude": 8}
    dims, hours = tuple(sizes), np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    dataset = xr.Dataset(
        {"tmp": (dims, np.ones(tuple(sizes.values()), np.float32), {"units": "K"})},
        {
            "time": np.array(["1995-01-01"], "datetime64[ns]"), "prediction_timedelta": hours,
            "level": [100.0, 500.0, 1000.0], "latitude": np.linspace(-60, 60, 4), "longitude": np.arange(8) * 45.0,
        },
    )  # fmt: skip
    dataset.to_zarr(place, zarr_format=2, consolidated=True)
    write_json(
        JobFolder(demo.root, "the-key").path / "result.json",
        {"finished": now(), "result": {"forecasts": str(place)}},
    )
    demo.show_map("training", "train", "the-key")
    assert not heard.getvalue()
    demo.show_map("training", "forecast", "the-key")
    picture = demo.note.with_name("first-forecast.png")
    assert str(picture) in heard.getvalue() and picture.read_bytes().startswith(b"\x89PNG")


def test_the_world_is_made_ahead_until_it_is_asked_to_stop(tmp_path, monkeypatch):
    def ensure_world(folder, world, until, *, should_stop):
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()
        raise Stopped("after some days, which are kept")

    monkeypatch.setattr("graphufs.replay.synthetic.store.ensure_world", ensure_world)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    with handled([signal.SIGTERM], signal.SIG_DFL):
        assert world_ahead.main([str(run_demo.TOP / "experiments" / "tiny.yaml"), str(tmp_path / "root")]) == STOPPED


@pytest.mark.long  # each program is traced twice
def test_what_is_compiled_ahead_are_the_programs_that_the_jobs_run(tiny, normalized_root, monkeypatch):
    paths, settings = Paths(tiny, normalized_root), tiny.training
    ahead = [program.as_text() for program in programs_ahead.programs(tiny, paths.world / STORE)]
    data = PreparedData.open(paths.data)
    emulator = ReplayEmulator.from_experiment(tiny, normalized_root).load_normalization()
    objective = Objective(emulator, Plan.of(tiny, data), Devices.choose(settings.batch_size))
    run = []
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda lowered: run.append(lowered.as_text()))
    for stage in objective.plan.stages:
        objective.program(stage, 1)

    def batch(size, steps):
        times = np.array([tiny.initial_times[0]] * size, "datetime64[ns]")
        return WindowReader.of(tiny, data, times, steps).read(times)

    network, own = emulator.network, (*objective.constants, batch(settings.batch_size, 1), np.uint32(0), np.int32(0))
    run.append(objective.loss_program().lower(network, *own).as_text())
    steps = tiny.forecast.lead_time // tiny.data.time_step
    forecast = network, emulator.stepper, batch(tiny.forecast.batch_size, steps), None
    run.append(emulator.rollout_program.lower(*forecast).as_text())
    assert ahead == run


def test_what_airflow_needs_is_made_first_and_a_failure_ends_the_demo(demo, monkeypatch):
    results(monkeypatch, False)
    played(monkeypatch, demo, PlayedAirflow({}))
    demo.first = ["true", "sh -c 'exit 3'"]
    with pytest.raises(run_demo.DemoFailed, match="exit 3'` ended with 3"):
        demo.run()
