"""What version 0.1.0 left on disk is read by the code that is here now, and nothing of it is made again.

`tests/golden/formats/` has a root, its sites and a copy of the control plane, all written by commit b3d2aa4, and
`values.json` says what is in them; `make.py` there tells how they were made, `unpack.py` how they come to lie
elsewhere. The steps run in the root, since the address of its source is relative.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from graphufs.config import loading
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import Manifest
from graphufs.emulator import checkpoint
from graphufs.errors import Stopped
from graphufs.nightly.scores import NightlyScores
from graphufs.normalization.statistics import Statistics
from graphufs.registry import registry
from graphufs.replay.synthetic.store import present
from graphufs.replay.times import stamps_in, text
from graphufs.retraining.decide import evidence_file
from graphufs.steps import CHAINS, STEPS, run_step
from graphufs.storage.paths import Paths
from graphufs.train.compiling.compiled_steps import Programs
from graphufs.weatherbench.results.scores import Scores
from jobs import site
from jobs.airflow.keys import job_key
from jobs.airflow.mirror import read
from jobs.catalogue import catalogue
from jobs.job.folder import JobFolder
from jobs.job.status import read_statuses
from jobs.submission import poll, submit
from jobs.submission import tend as tending
from jobs.submission.submit import Request
from tests.airflow import NO_AIRFLOW
from tests.airflow import PYTHON as AIRFLOWS_PYTHON
from tests.conftest import TINY
from tests.golden.formats.unpack import ARCHIVE, unpack
from tests.jobs import FakeSlurm, until

VALUES = json.loads(ARCHIVE.with_name("values.json").read_text())
TRIGGERS = ARCHIVE.with_name("triggers.json")
CHAMPION = VALUES["champion"]
HOME = "login1.example"
"""The machine on which the local jobs ran."""
NIGHT = ("prepare", "forecast", "evaluate", "record_nightly")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The root, to be read only."""
    return unpack(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def root(kept, tmp_path, monkeypatch):
    """The root that all tests share, where nothing is to be changed that others look at."""
    return at_work(kept, tmp_path, monkeypatch)


@pytest.fixture
def own_root(tmp_path, monkeypatch):
    """The root, to work in."""
    return at_work(unpack(tmp_path / "unpacked"), tmp_path, monkeypatch)


def at_work(root, folder, monkeypatch):
    """The root is the present folder; with its sites, this Python, and a Slurm that has one job waiting."""
    (folder / "slurm").mkdir()
    slurm = FakeSlurm(folder / "slurm")
    slurm.row("PENDING", VALUES["slurm"])
    path = os.pathsep.join([str(slurm.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("GRAPHUFS_SITES", str(root.parent / "sites"))
    monkeypatch.chdir(root)
    return SimpleNamespace(path=root, slurm=slurm, tiny=tiny_of(root))


def tiny_of(root):
    """The experiment, as its jobs keep it."""
    return JobFolder(root, VALUES["jobs"]["train"]).experiment()


def contents(root):
    """What each file below the root holds; locks are not looked at."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def rmse(scores):
    return {
        f"{forecast} {channel}": scores.values("rmse", forecast, channel).tolist()
        for forecast in scores.forecasts
        for channel in scores.channels
    }


def look(job):
    return read_statuses([job])[0]


def test_every_step_of_each_model_was_done(root):
    before = contents(root.path)
    challenger = loading.parse(registry.get(root.path, VALUES["challenger"]["model"]).experiment)
    alone = tuple(step for step in CHAINS["run"] if step != "report")  # the comparison's page is its report
    for experiment, steps in (
        (root.tiny, CHAINS["run"]),  # registered with other scores since
        (loading.parse(VALUES["third"]), (*CHAINS["run"], "register")),
        (challenger, (*alone, "register")),
    ):
        for step in steps:
            assert run_step(step, experiment, root.path)["status"] == "unchanged", step
    assert contents(root.path) == before


def test_prepared_data_are_whole_and_are_those_of_the_source(kept):
    folder = Paths(tiny_of(kept), kept).data
    manifest = Manifest.read(folder)
    assert [segment.damage(folder, thorough=True) for segment in manifest.segments] == [None] * len(manifest.segments)
    data = PreparedData.open(folder)
    frames = data.read(data.stamps)
    source = xr.open_zarr(kept / "replay.zarr").sel(time=data.stamps)
    for variable in ("pressfc", "dswrf_avetoa", "tmp"):
        values = source[variable].values
        assert np.array_equal(frames[:, data.variable_slice(variable)].reshape(values.shape), values)
    assert np.array_equal(data.static["land_static"], source["land_static"].values)


def test_statistics_are_those_of_the_training_period(kept):
    tiny = tiny_of(kept)
    statistics = Statistics.open(Paths(tiny, kept).statistics(), ["pressfc", "tmp"], tiny.data.levels)
    source = xr.open_zarr(kept / "replay.zarr").sel(time=stamps_in(tiny.data.training, tiny.data.time_step))
    for name, over in (("pressfc", None), ("tmp", ("time", "grid_yt", "grid_xt"))):
        values = source[name].astype(np.float64)
        assert np.allclose(statistics.mean[name], values.mean(over).values, rtol=1e-6)
        assert np.allclose(statistics.std[name], values.std(over).values, rtol=1e-4)


def test_moments_make_the_same_statistics_again(own_root):
    layout = Paths(own_root.tiny, own_root.path)
    moments, folder = contents(layout.moments), layout.statistics()
    before = folder.rename(folder.with_name("before"))
    assert run_step("normalize", own_root.tiny, own_root.path)["status"] == "completed"
    assert contents(layout.moments).items() >= moments.items()  # and their checksums, which 0.1.0 did not have
    for store in ("mean_by_level", "stddev_by_level", "diffs_stddev_by_level"):
        then, now = (xr.open_zarr(one / f"{store}.zarr").load() for one in (before, folder))
        xr.testing.assert_equal(then, now)


def test_a_training_that_was_stopped_is_taken_up_where_it_stood(own_root, monkeypatch):
    stopped, after = loading.parse(VALUES["stopped"]["experiment"]), VALUES["stopped"]["after"]
    assert checkpoint.updates(Paths(stopped, own_root.path).checkpoints) == [after]
    taken_up = []

    def compiling(programs, stages, progress):  # what comes now takes long, and reads nothing more
        taken_up.extend(stages)
        raise Stopped("before compiling")

    monkeypatch.setattr(Programs, "prepare", compiling)
    result = run_step("train", stopped, own_root.path)
    assert (result["status"], result["message"]) == ("stopped", "before compiling")
    assert [stage.end for stage in taken_up] == [6]


def test_forecasts_that_are_half_made_are_finished(own_root):
    half = loading.parse(VALUES["half"])
    place = Paths(half, own_root.path).forecasts
    (part,) = place.parent.glob(f"{place.name}.*.part")
    (first,) = part.glob("store.zarr/surface_pressure/0.0.0.0")
    made = first.stat().st_mtime_ns
    result = run_step("forecast", half, own_root.path)
    assert result["status"] == "completed" and not part.exists()
    forecasts = xr.open_zarr(place)
    assert forecasts.sizes["time"] == result["initial_times"] == len(half.initial_times)
    assert not np.isnan(forecasts["surface_pressure"].values).any()
    assert (place / "surface_pressure" / first.name).stat().st_mtime_ns == made


def test_the_checkpoint_forecasts_what_it_forecast(own_root):
    place = Paths(own_root.tiny, own_root.path).forecasts
    before = place.rename(place.with_name("before.zarr"))
    assert run_step("forecast", own_root.tiny, own_root.path)["status"] == "completed"
    then, now = xr.open_zarr(before).load(), xr.open_zarr(place).load()
    assert then.sizes == now.sizes and set(then.data_vars) == set(now.data_vars)
    for name in then.data_vars:
        spread = float(then[name].std())
        assert spread > 0 and float(abs(then[name] - now[name]).max()) < 1e-4 * spread, name


def test_scores_are_what_they_were(kept):
    scores = Scores.open(Paths(tiny_of(kept), kept).scores)
    assert rmse(scores) == VALUES["scores"]
    assert set(scores.states()) == set(scores.forecasts)  # their checksums are compared


def test_the_registry_tells_of_the_same_models_and_champion(kept):
    history = [[one.kind, one.model, one.by, one.why] for one in registry.history(kept)]
    assert history == VALUES["history"]
    assert {one.id: one.role for one in registry.models(kept)} == VALUES["models"]
    assert registry.champion(kept, "tiny").id == CHAMPION
    kinds = [kind for kind, *_ in history]
    assert {"registered", "scored", "promoted"} <= set(kinds) and "rollback_of" in registry.history(kept)[-2].content


def test_a_recorded_night_is_known_and_adds_nothing(root):
    night = loading.parse(VALUES["night"])
    nights = NightlyScores(Paths(night, root.path).nightly(registry.get(root.path, CHAMPION).checkpoint))
    scores = nights.open()
    assert rmse(scores) == VALUES["nights"]["scores"]
    assert [text(time) for time in scores.initial_times] == VALUES["nights"]["times"]
    result = run_step("record_nightly", night, root.path)
    assert (result["status"], result["added"]) == ("unchanged", 0)


def test_the_champion_forecasts_the_next_night(own_root):
    plan = run_step("plan_nightly", own_root.tiny, own_root.path)
    assert plan["model"] == CHAMPION and plan["scored"] == len(VALUES["nights"]["times"]) and plan["initial_times"]
    tonight = loading.parse(plan["experiment"])
    climatology = contents(Paths(tonight, own_root.path).climatology)
    for step in NIGHT:
        result = run_step(step, tonight, own_root.path)
    assert contents(Paths(tonight, own_root.path).climatology) == climatology
    assert result["added"] == len(plan["initial_times"])
    assert result["initial_times"] == plan["scored"] + result["added"]


def test_a_comparison_is_known_and_was_decided(root):
    model = registry.get(root.path, VALUES["challenger"]["model"])
    experiment, request = loading.parse_run(model.experiment, ["retraining.answer=promote"])
    assert (request.champion, request.answer) == (CHAMPION, "promote")
    evidence = json.loads(evidence_file(Paths(experiment, root.path), CHAMPION).read_text())
    assert evidence["decision"] == VALUES["challenger"]["compared"]
    result = run_step("decide", experiment, root.path, request=request.only(STEPS["decide"].asks))
    assert (result["status"], result["decision"]) == ("unchanged", VALUES["challenger"]["decided"])
    again = loading.parse(loading.dump(root.tiny), VALUES["round"])
    plan = run_step("plan_retraining", again, root.path)
    assert plan["experiment"] is None and "nothing new" in plan["message"]


def test_the_embedded_world_goes_on_from_its_first_night(own_root):
    tiny, tonight = loading.load_run(TINY, ["nightly.night=2026-01-01"])
    assert text(present(Paths(tiny, own_root.path).world)) == VALUES["world"]
    assert run_step("extend_world", tiny, own_root.path, request=tonight)["status"] == "unchanged"
    tomorrow = run_step("extend_world", tiny, own_root.path, request=loading.request({"night": "2026-01-02"}))
    assert tomorrow["status"] == "completed" and tomorrow["was"] == VALUES["world"] < tomorrow["present"]


@pytest.fixture
def at_home(monkeypatch):
    """This is the machine on which the local jobs ran, started anew since."""
    system, _, *others = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((system, HOME, *others)))


def test_jobs_are_in_the_states_they_were_in(root, at_home):
    statuses = [one for one in read_statuses(JobFolder.all(root.path)) if one.job.key != "live"]
    assert {one.job.key: [one.state, one.ending, len(one.job.attempts())] for one in statuses} == VALUES["states"]
    told = look(JobFolder(root.path, VALUES["jobs"]["register"])).to_json()
    wanted = VALUES["airflows"]["status"]
    assert {name: told[name] for name in told if name not in ("folder", "age")} == {
        name: wanted[name] for name in wanted if name not in ("folder", "what")
    }
    failed = JobFolder(root.path, VALUES["jobs"]["forecast"])
    ending = json.loads((failed.folder(1) / "ending.json").read_text())
    assert ending["ending"] == "bad_input" and failed.attempt(2).cause == "person"
    log, cursor = poll.news(failed, {})
    assert "submitit" in log and {name.partition("/")[0] for name in cursor} == {"1", "2"}


def test_the_catalogue_tells_of_all_of_it(root):
    found = catalogue(root.path)
    assert found["champions"] == {"tiny": CHAMPION} and not found["warnings"]
    assert {one["id"]: one["role"] for one in found["models"]} == VALUES["models"]
    assert {one["key"] for one in found["jobs"]} >= {"live", "queued", "unfinished"}
    assert [one["initial_times"] for one in found["nightly"]] == [len(VALUES["nights"]["times"])]


def request(root, step, key=None, where="local", experiment=None, **more):
    return Request(step, experiment or root.tiny, where, site.load(where), root.path, key, **more)


def test_a_key_that_is_held_attaches_and_starts_nothing(root):
    jobs = VALUES["jobs"]
    for step in CHAINS["run"]:
        what, status = submit.submit(request(root, step))
        assert (what, status.job.key, status.state) == ("completed already", jobs[step], "COMPLETED")
    what, status = submit.submit(request(root, "register", job_key(*VALUES["airflows"]["task"])))
    assert (what, status.job.key, len(status.job.attempts())) == ("completed already", jobs["register"], 1)
    queued = JobFolder(root.path, "queued")
    what, status = submit.submit(request(root, "prepare", "queued", "cluster", queued.experiment()))
    assert (what, status.state, status.id) == ("attached", "PENDING", VALUES["slurm"])
    what, status = submit.submit(request(root, "report", "live", needs=("queued",)))
    assert (what, status.state, status.job.attempts()) == ("attached", "UNKNOWN", [1])  # it runs on another machine
    assert not root.slurm.calls("sbatch")


def test_a_job_whose_submitter_died_is_started_with_its_payload(own_root):
    job = JobFolder(own_root.path, "unfinished")
    assert look(job).state == "SUBMITTING"
    what, _ = tending.tend(job)
    assert what == "healed"
    done = until(lambda: (found := look(job)).over and found)
    assert done.state == "COMPLETED", done.message
    assert job.attempts() == [1] and job.result()["result"]["status"] == "completed"


def test_a_job_that_waits_in_slurms_queue_runs_when_slurm_starts_its_script(own_root):
    job = JobFolder(own_root.path, "queued")
    (own_root.slurm.bin / "srun").write_text('#!/bin/bash\nwhile [ "$1" != python ]; do shift; done\nexec "$@"\n')
    alone = {"JOB_ID": VALUES["slurm"], "NTASKS": "1", "JOB_NUM_NODES": "1"}
    first = dict.fromkeys(("NODEID", "PROCID", "LOCALID"), "0")
    done = subprocess.run(
        ["bash", str(job.folder(1) / "script.sh")],
        env=os.environ | {f"SLURM_{name}": value for name, value in (alone | first).items()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert look(job).state == "COMPLETED" and job.claims(1) == {"0": VALUES["slurm"]}
    assert job.result()["result"]["new"] > 0


def test_the_control_planes_copy_of_a_site_is_read(kept, monkeypatch):
    monkeypatch.setenv("GRAPHUFS_MIRROR", str(kept.parent / "mirror"))
    assert read.sites() == ["local"]
    assert set(read.models(["local"])) == set(VALUES["models"])
    assert read.catalogue("local")["champions"] == {"tiny": CHAMPION}


INSIDE = """
import json, sys
from airflow._shared.module_loading import import_string
from airflow.serialization.decoders import smart_decode_trigger_kwargs
from tests.airflow.inside import context, operator, site

stored, found = json.load(open(sys.argv[1])), {}
for name, one in stored["triggers"].items():
    kept = one["encoded"]
    given = {word: smart_decode_trigger_kwargs(value) for word, value in kept["kwargs"].items()}
    trigger = import_string(kept["classpath"])(**given)
    found[name] = [type(trigger).__name__, trigger.serialize()[1]]
    assert callable(getattr(operator(), name.partition(",")[0])), name
with site({}):
    found["result"] = operator(site="local").execute_complete(context(), stored["event"])
print(json.dumps(found))
"""


@pytest.mark.skipif(bool(NO_AIRFLOW), reason=NO_AIRFLOW)
def test_a_task_that_waits_in_airflows_database_goes_on(root, tmp_path):
    settings = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    helpers = Path(__file__).parents[2]
    paths = [str(helpers), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [AIRFLOWS_PYTHON, "-c", INSIDE, TRIGGERS],
        env={**clean, **settings, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, stored in json.loads(TRIGGERS.read_text())["triggers"].items():
        classpath, content = stored["serialized"]
        assert found[name] == [classpath.rpartition(".")[2], content]
    assert found["result"]["model"] == CHAMPION and found["result"]["job"] == VALUES["jobs"]["register"]
