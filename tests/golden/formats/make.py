"""Make what version 0.1.0 writes, to be kept: names of outputs and jobs, a small root, and Airflow's stored triggers.

It ran once, with the code of commit b3d2aa4, and what it made is not to be made again: later code must read what was
written then. To see it run, take the commit that added this file, whose `graphufs/` and `jobs/` are b3d2aa4's:

    git worktree add /tmp/there COMMIT && cd /tmp/there && make setup-dev setup-airflow
    .venv/bin/python tests/golden/formats/make.py names       hashes.json, schema.json
    .venv/bin/python tests/golden/formats/make.py root        root-0.1.0.tar.xz, values.json
    .venv-airflow/bin/python tests/golden/formats/make.py triggers     triggers.json (after `root`)

The root is that of `experiments/tiny.yaml`, made smaller by overrides (`SETTINGS`): a source of its own, 16 by 8 points
and 15 days, instead of the embedded world of 64 by 32; a network of four channels. The source's address is relative,
since it is part of all hashes; commands and jobs run in the root. Of the embedded world there is a store too, without
its fields and the model's state, which are large and which nobody reads who only lets time pass.

What is done in it, in this order:

- the chain and `register` as jobs of the site `local`; the forecast once too early, so that it has a failed attempt;
  `register` as a task of Airflow would submit it
- a person promotes the model; a night; the same forecasts scored otherwise
- a round of retraining: a challenger that began with the champion's weights is compared and promoted, and taken back
- a third model, a candidate; forecasts of which one half is made; a training that was stopped
- jobs that are not over: one whose submitter died before it started a process, one that Slurm (played by a few
  scripts) has in its queue, one that waited on another machine, one that was cancelled

The names of this machine and its boot are replaced afterwards, and random bytes that only take room become zeros.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import names
from unpack import ARCHIVE, MADE_IN, with_other_text

HERE = Path(__file__).parent
COMMIT = "b3d2aa4"
PLACE = Path(MADE_IN)
ROOT = PLACE / "root"
AIRFLOWS = ("training", "manual__2026-01-01T00:00:00+00:00", "register")
"""DAG, run and task of the job that Airflow submitted."""
SOURCE_END = "1994-01-15T12"
SETTINGS = (
    "data.source.url=replay.zarr",
    "data.training={start: 1994-01-01T00, end: 1994-01-04T18}",
    "data.validation={start: 1994-01-05T00, end: 1994-01-05T18}",
    "data.evaluation={start: 1994-01-06T00, end: 1994-01-08T18}",
    "model={mesh_size: 1, latent_size: 4, message_steps: 1}",
    "training.stages.0.updates=6",
    "training.stages.1.updates=2",
    "training.validate_every=4",
    "training.keep_checkpoints=1",
    "forecast={every: 6h, lead_time: 12h, batch_size: 4}",
    "nightly.at_most=4",
)
ROUND = (
    "training.stages.0.updates=60",
    "training.stages.0.learning_rate.peak=0.02",
    "retraining={training_days: 3, validation_days: 1, new_days: 1, comparison_times: 8, level: 0.3}",
    # a network this small, trained for seconds, keeps to no climate
    "retraining.stability={margin: 100, spectrum: 1.0e9}",
)
OTHER_DATA = "data.levels=[500]"
SHORT = "training.stages=[{name: one-step, updates: 6}]"
STOPPED_AFTER = 4
"""Updates of the training that is not finished; it has one stage, since each is compiled for seconds."""
SITE = "description: This machine, as the shipped site `local`.\nexecutor: local\nlead: 30\npython: python\n"
CLUSTER = "description: A cluster.\nexecutor: slurm\npython: python\nresources: {default: {partition: main}}\n"
SLURM_NUMBER = "4711"
ELSEWHERE = "login1.example"
"""The machine that this one is called afterwards."""
TEXTS = ("", ".json", ".jsonl", ".log", ".out", ".err", ".sh", ".yaml", ".txt", ".html", ".csv")
LARGE = ("worlds/*/fv3.zarr/*/0/", "worlds/*/state-*.npz")
"""What of the embedded world is left out: the chunks of all that is no coordinate, and the model's state."""
LONG_AGO = "2026-01-01T00:00:00Z"


def main(what: str) -> None:
    """Make one of the three."""
    if what == "names":
        make_names()
    elif what == "root":
        make_root()
    elif what == "triggers":
        make_triggers()
    else:
        raise SystemExit(__doc__)


def write(name: str, content: Any) -> None:
    """Write a JSON file beside this one."""
    (HERE / name).write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def make_names() -> None:
    """How outputs and jobs are named."""
    from graphufs.storage.paths import Paths

    experiments = {name: names.shipped(name) for name in names.SHIPPED}
    both = names.shipped("tiny", *names.BOTH_TRUTHS)
    shutil.rmtree(PLACE, ignore_errors=True)
    hashes = {
        "outputs": {name: names.outputs(Paths(one, PLACE)) for name, one in experiments.items()}
        | {"both truths": names.outputs(Paths(both, PLACE))},
        "changes": names.changes(Paths, PLACE),
        "jobs": {name: names.jobs(one, PLACE) for name, one in experiments.items()},
        "tasks": names.tasks(),
    }
    write("hashes.json", hashes)
    write("schema.json", names.schemas())
    shutil.rmtree(PLACE)


def make_root() -> None:
    """The root, and what is to be found in it."""
    prepare_surroundings()
    values = steps_and_jobs()
    jobs_not_over(values)
    embedded_world(values)
    mirror()
    neutral()
    values["bytes"] = pack()
    write("values.json", values)


def prepare_surroundings() -> None:
    """A fresh folder with sites, a source, and a Slurm that only pretends."""
    from graphufs.storage.provenance import provenance

    commit = str(provenance()["commit"])
    if not commit.startswith(COMMIT) or commit.endswith("+changes"):
        raise SystemExit(f"the code is that of {commit}, not of {COMMIT}")
    shutil.rmtree(PLACE, ignore_errors=True)
    for folder in ("root", "sites", "bin", "compiled"):
        (PLACE / folder).mkdir(parents=True)
    (PLACE / "sites" / "local.yaml").write_text(SITE)
    (PLACE / "sites" / "cluster.yaml").write_text(CLUSTER)
    row = f"{SLURM_NUMBER}|PENDING|Priority|N/A|N/A|"
    for command, answer in {
        "srun": "",
        "sbatch": f"Submitted batch job {SLURM_NUMBER}",
        "squeue": row,
        "sacct": "",
    }.items():
        path = PLACE / "bin" / command
        path.write_text(f"#!/bin/bash\n{answer and f'echo {answer!r}'}\n")
        path.chmod(0o755)
    os.environ |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(PLACE / "bin"), os.environ["PATH"]]),
        "GRAPHUFS_SITES": str(PLACE / "sites"),
        "JAX_COMPILATION_CACHE_DIR": str(PLACE / "compiled"),
        "JAX_PLATFORMS": "cpu",
        "LOGNAME": "somebody",
    }
    os.chdir(ROOT)
    write_source(ROOT / "replay.zarr")


def write_source(path: Path) -> None:
    """A store in the layout of Replay: waves that travel over 16 by 8 points, and the sun."""
    import numpy as np
    import xarray as xr

    from graphufs.grid.areas import gaussian_latitudes

    times = np.arange(np.datetime64("1994-01-01T00", "ns"), np.datetime64(SOURCE_END) + 1, np.timedelta64(6, "h"))
    latitude, longitude = gaussian_latitudes(8), np.arange(16) * 22.5
    levels = np.array([505.6, 998.8], np.float32)
    hours = ((times - times[0]) / np.timedelta64(1, "h"))[:, None, None]
    phi, lam = np.deg2rad(latitude)[None, :, None], np.deg2rad(longitude)[None, None, :]
    random = np.random.default_rng(0)

    def wave(number: int, period: float) -> Any:
        smooth = np.cos(phi) ** 2 * np.cos(number * lam - 2 * np.pi * hours / period)
        return smooth + 0.05 * random.standard_normal(smooth.shape)

    warm = 250 + 30 * np.cos(phi) ** 2 + np.stack([3 * wave(4, 96), 20 + 3 * wave(3, 80)], axis=1)
    sun = np.maximum(np.cos(phi) * np.cos(2 * np.pi * hours / 24 + lam - np.pi), 0) * 1361
    grid = ("grid_yt", "grid_xt")
    land = (np.sin(2 * lam + 1) + 1.2 * np.sin(3 * phi) > 0.4)[0]
    fields = {
        "pressfc": (("time", *grid), 101325 + 1200 * wave(4, 110), "surface pressure", "Pa"),
        "tmp": (("time", "pfull", *grid), warm, "temperature", "K"),
        "dswrf_avetoa": (("time", *grid), sun, "top of atmos downward shortwave flux", "W/m**2"),
        "land_static": (grid, land, "static land-sea/ice mask", "numerical"),
    }
    coordinates = {
        "time": times,
        "pfull": ("pfull", levels, {"long_name": "ref full pressure level", "units": "mb"}),
        "grid_yt": ("grid_yt", latitude, {"units": "degrees_N"}),
        "grid_xt": ("grid_xt", longitude, {"units": "degrees_E"}),
    }
    dataset = xr.Dataset(
        {
            name: (dimensions, values.astype(np.float32), {"long_name": words, "units": units})
            for name, (dimensions, values, words, units) in fields.items()
        },
        coordinates,
        {"description": "look-alike of the UFS Replay"},
    )
    encoding = {name: {"compressors": (), "_FillValue": np.nan} for name in fields}
    dataset.to_zarr(path, zarr_format=2, consolidated=True, encoding=encoding)


def submitted(step: str, experiment: Any, *options: str, good: bool = True) -> dict[str, Any]:
    """Submit a step as a person does, wait for it, and say what the command said."""
    from graphufs.config import loading

    command = ["python", "-m", "jobs", "submit", step, "-", "--site", "local", "--root", str(ROOT), "--json", *options]
    done = subprocess.run(command, input=loading.dump(experiment), capture_output=True, text=True)
    print(step, done.returncode, flush=True)
    if (done.returncode == 0) is not good:
        raise SystemExit(done.stderr + done.stdout)
    return dict(json.loads(done.stdout)["jobs"][0])


def steps_and_jobs() -> dict[str, Any]:
    """Three models with all that is made of them; what is to be found again."""
    from graphufs.config import loading
    from graphufs.emulator import checkpoint
    from graphufs.nightly.scores import NightlyScores
    from graphufs.registry import registry
    from graphufs.registry.decisions import promote
    from graphufs.steps import CHAIN, Part, run_step
    from graphufs.storage.paths import Paths
    from graphufs.weatherbench.results.scores import Scores
    from jobs.airflow.keys import Origin, job_key

    def take(steps: tuple[str, ...], one: Any) -> dict[str, Any]:
        for step in steps:
            result = run_step(step, one, ROOT)
            print(step, result["status"], result.get("message", ""), flush=True)
        return result

    def with_(*overrides: str) -> Any:
        return loading.parse(loading.dump(tiny), overrides)

    tiny = names.shipped("tiny", *SETTINGS)
    finished = {}
    for step in ("prepare", "normalize"):
        finished[step] = submitted(step, tiny, "--wait")["key"]
    submitted("forecast", tiny, "--wait", good=False)  # before there is a model
    for step in ("train", "forecast", "evaluate", "report"):
        finished[step] = submitted(step, tiny, "--wait")["key"]
    key = job_key(*AIRFLOWS)
    labels = [f"--label={name}={value}" for name, value in Origin(*AIRFLOWS).labels("").items()]
    airflows = submitted("register", tiny, "--wait", f"--key={key}", *labels)
    finished["register"] = key
    first = airflows["result"]["result"]["model"]
    promote(ROOT, first, "somebody", "the first one")

    night = loading.parse(take(("plan_nightly",), tiny)["experiment"])
    take(("prepare", "forecast", "evaluate", "record_nightly"), night)
    take(("evaluate", "register"), with_("evaluation.grid=8x4"))

    planned = take(("plan_retraining",), with_(*ROUND))
    challenger = loading.parse(planned["experiment"])
    compared = take(("prepare", "normalize", "train", "compare_models"), challenger)
    answer = {"answer": "promote", "decided_by": "somebody", "why": "looks well", "cost": {"gpu_hours": 0.5}}
    content = challenger.model_dump(mode="json")
    content["retraining"] |= answer
    decided = take(("decide",), loading.validate(type(challenger), content, "", ""))
    back = with_("retraining.decided_by=somebody", "retraining.why=it was worse in the tropics")
    take(("rollback",), back)
    third = with_("training.seed=1")
    take((*CHAIN, "register"), third)

    half = with_("forecast.every=12h")
    assert run_step("forecast", half, ROOT, part=Part(0, 2))["status"] == "completed"
    stopped, looks = with_("training.seed=2", SHORT), iter(range(99))
    assert run_step("train", stopped, ROOT, should_stop=lambda: next(looks) >= STOPPED_AFTER - 1)["status"] == "stopped"

    scores = Scores.open(Paths(tiny, ROOT).scores)
    model = registry.get(ROOT, first)
    nights = NightlyScores(Paths(tiny, ROOT).nightly(model.checkpoint)).open()
    assert nights is not None
    return {
        "commit": checkpoint.read_meta(Paths(tiny, ROOT).checkpoints / model.checkpoint)["provenance"]["commit"],
        "jobs": finished,
        "airflows": {"task": AIRFLOWS, "status": airflows},
        "models": {one.id: one.role for one in registry.models(ROOT)},
        "champion": registry.champion(ROOT, "tiny").id,
        "history": [[one.kind, one.model, one.by, one.why] for one in registry.history(ROOT)],
        "challenger": {"model": compared["model"], "compared": compared["decision"], "decided": decided["decision"]},
        "third": loading.dump(third),
        "half": loading.dump(half),
        "stopped": {"experiment": loading.dump(stopped), "after": STOPPED_AFTER},
        "round": ROUND,
        "night": loading.dump(night),
        "scores": rmse(scores),
        "nights": {"scores": rmse(nights), "times": [str(time)[:13] for time in nights.initial_times]},
    }


def rmse(scores: Any) -> dict[str, list[float]]:
    """The root mean square error by forecast and channel, at each lead."""
    return {
        f"{forecast} {channel}": scores.values("rmse", forecast, channel).tolist()
        for forecast in scores.forecasts
        for channel in scores.channels
    }


def jobs_not_over(values: dict[str, Any]) -> None:
    """Jobs that somebody will attach to, start, or find cancelled."""
    from graphufs.config import loading
    from jobs import site
    from jobs.job.folder import JobFolder
    from jobs.job.status import read_statuses
    from jobs.submission import submit

    tiny = names.shipped("tiny", *SETTINGS)

    def request(step: str, key: str, *overrides: str, where: str = "local", **more: Any) -> submit.Request:
        one = loading.parse(loading.dump(tiny), overrides)
        return submit.Request(step, one, where, site.load(where), ROOT, key, **more)

    def running(job: JobFolder) -> None:
        end = time.monotonic() + 120
        while read_statuses([job])[0].state != "RUNNING" or not (job.path / "progress.json").exists():
            assert time.monotonic() < end, f"{job.key} does not start"
            time.sleep(0.1)

    started = submit._start
    submit._start = lambda *_: None  # its submitter dies here
    submit.submit(request("normalize", "unfinished", "normalization.weights=area"))
    submit._start = started
    unfinished = JobFolder(ROOT, "unfinished")
    attempt = unfinished.attempt()
    assert attempt is not None
    unfinished.write_attempt(attempt, begun=LONG_AGO)  # so that nobody waits for a process that might still come
    submit.submit(request("prepare", "queued", OTHER_DATA, where="cluster"))
    for key in ("live", "cancelled"):
        _, status = submit.submit(request("report", key, needs=("queued",)))
        running(status.job)
        if key == "live":
            shutil.copytree(status.job.path, PLACE / "live")
        submit.cancel(status.job)
    shutil.rmtree(ROOT / "jobs" / "live")
    shutil.move(PLACE / "live", ROOT / "jobs" / "live")
    jobs = [job for job in JobFolder.all(ROOT) if job.key != "live"]
    values["states"] = {one.job.key: [one.state, one.ending, len(one.job.attempts())] for one in read_statuses(jobs)}
    values["slurm"] = SLURM_NUMBER


def embedded_world(values: dict[str, Any]) -> None:
    """Some days of the embedded world, and the note of its first night."""
    import numpy as np

    from graphufs.replay.synthetic.store import ensure_world
    from graphufs.steps import run_step
    from graphufs.storage.paths import Paths

    tiny = names.shipped("tiny", "nightly.night=2026-01-01")
    ensure_world(Paths(tiny, ROOT).world, tiny.data.source.world, np.datetime64("1994-01-04T18", "h"), exact=True)
    values["world"] = run_step("extend_world", tiny, ROOT)["present"]


def mirror() -> None:
    """What the control plane keeps of a site."""
    done = subprocess.run(
        ["python", "-m", "jobs", "show", "--site", "local", "--root", str(ROOT), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    content = {**json.loads(done.stdout), "left_out": [], "mirrored": "2026-01-01T00:00:00Z"}
    (PLACE / "mirror" / "local").mkdir(parents=True)
    (PLACE / "mirror" / "local" / "catalogue.json").write_text(json.dumps(content, indent=2) + "\n")


def neutral() -> None:
    """Take out what names this machine, what only takes room, and the large parts of the embedded world."""
    import graphufs

    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    changes = {
        f'"{os.uname().nodename}"': f'"{ELSEWHERE}"',
        f"hostname={os.uname().nodename},": f"hostname={ELSEWHERE},",
        boot: "00000000-0000-0000-0000-000000000000",
        str(Path(graphufs.__file__).parents[1]): "/opt/graphufs",
        sys.prefix: "/opt/environment",
        **({} if sys.base_prefix.startswith("/usr") else {sys.base_prefix: "/opt/python"}),
    }
    for pattern in LARGE:
        for path in ROOT.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [*ROOT.rglob("*"), *(PLACE / "mirror").rglob("*")]:
        if path.is_symlink() or not path.is_file():
            continue
        before = path.read_bytes()
        if path.name == "reserve":
            after = bytes(len(before))
        elif path.suffix == ".pkl":
            after = with_other_text(before, changes)
        elif path.suffix in TEXTS:
            after = before
            for old, new in changes.items():
                after = after.replace(old.encode(), new.encode())
        else:
            after = before
        if after != before:
            path.write_bytes(after)


def pack() -> dict[str, int]:
    """Write the archive, always the same for the same files; how large its parts are."""
    kept = [ROOT, PLACE / "sites", PLACE / "mirror"]
    paths = sorted(path for folder in kept for path in (folder, *folder.rglob("*")))

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = 1767225600  # 2026-01-01
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    with tarfile.open(ARCHIVE, "w:xz", preset=9, format=tarfile.GNU_FORMAT) as packed:
        for path in paths:
            packed.add(path, path.relative_to(PLACE), recursive=False, filter=plain)
    sizes: dict[str, int] = {}
    for path in paths:
        if path.is_file() and not path.is_symlink():
            part = "/".join(path.relative_to(PLACE).parts[:2])
            sizes[part] = sizes.get(part, 0) + path.stat().st_size
    return sizes


def make_triggers() -> None:
    """What Airflow's database holds of a task that waits: its trigger, the method to go on with, and an event."""
    from airflow.serialization.encoders import encode_trigger

    from jobs.airflow.operators.trigger import JobTrigger, SiteTrigger

    values = json.loads((HERE / "values.json").read_text())
    status = values["airflows"]["status"]
    key = status["key"]
    waiting = {
        "execute_complete": JobTrigger("local", key, {"1/7_0_log.out": 120}, 1767225600.0, 1767222000.5),
        "execute_complete, simple": JobTrigger("local", key),
        "execute_again": SiteTrigger("local", 1767225600.0),
    }
    stored = {
        name: {"serialized": list(trigger.serialize()), "encoded": encode_trigger(trigger)}
        for name, trigger in waiting.items()
    }
    event = JobTrigger("local", key)._event({**status, "what": "nothing", "log": "", "cursor": {}})
    write(
        "triggers.json",
        {"triggers": stored, "event": event, "xcoms": {"job": key, "log_cursor": {"1/7_0_log.out": 120}}},
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")
