"""Make what an Airflow of version 0.1.0 leaves: its whole database, and what its jobs wrote into the root beside it.

Like `make.py` it ran once, with the code of commit b3d2aa4, on top of the root that lies here packed:

    git worktree add /tmp/there b3d2aa4 && cd /tmp/there && make setup-dev setup-airflow
    .venv/bin/python TODAYS_CHECKOUT/tests/golden/formats/make_airflow.py     airflow-0.1.0.tar.xz, airflow.json

The Airflow has PostgreSQL and the DAGs of that commit; its site `local` is this machine. What is done in it:

- the run `finished`: a training, from `check` to `register` and the copy of the catalogue
- the run `waiting`: a training whose task `train` is deferred, while its job runs (held up by a lock)
- the run `retried`: a training whose task `train` was killed after it had submitted its job, and which waits for its
  next try, while the job runs (held up by another lock)

Then the scheduler is stopped and the database is dumped. The deadline of the job that is waited for is put off, and the
names of this machine are replaced, as in `make.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from unpack import ARCHIVE, MADE_IN, unpack, with_other_text

COMMIT = "b3d2aa4"
THERE = Path.cwd()
sys.path[:0] = [str(THERE), str(THERE / "scripts")]
PLACE, ROOT = Path(MADE_IN), Path(MADE_IN) / "root"
ELSEWHERE = "login1.example"
INSTANCE = "01000000"
NEVER = 4102444800
"""Seconds since the epoch, of the year 2100."""
RUNS = {"finished": 3, "waiting": 4, "retried": 5}
"""The runs of the DAG `training`, and their seeds."""
SETTINGS = {
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "GRAPHUFS_NIGHTLY_SCHEDULE": "0 0 1 1 *",
}
TEXTS = ("", ".json", ".jsonl", ".log", ".out", ".err", ".sh", ".yaml", ".txt", ".html", ".csv")


def main() -> None:
    """Make both files."""
    from airflow_api import Api
    from private_airflow import Stack
    from private_settings import Settings

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    if not commit.startswith(COMMIT):
        raise SystemExit(f"the code is that of {commit.strip()}, not of {COMMIT}")
    before = prepare()
    environment = {**SETTINGS, "GRAPHUFS_SITES": str(PLACE / "sites"), "GRAPHUFS_MIRROR": str(PLACE / "mirror")}
    settings = Settings(
        str(THERE / "dags"), environment={**environment, "PYTHONPATH": str(THERE)}, seconds=600, parallelism=2
    )
    stack = Stack(PLACE / "airflow", settings, print)
    stack.instance = INSTANCE
    with ExitStack() as ending:
        ending.callback(stack.down)
        stack.up()
        api = Api(stack.url, "admin", stack.passwords["admin"], seconds=600)
        until(lambda: api.paused("training") is not None)
        api.unpause("training")
        until(lambda: api.paused("reconcile") is not None)
        api.pause("reconcile")
        keys = runs(api, ending)
        stack.stop("scheduler")
        dumped = dump(stack)
        after = contents()
        found = {name: digest for name, digest in after.items() if before.get(name) != digest}
        pack(stack, dumped, sorted(found))
    known = {"instance": INSTANCE, "runs": RUNS, "keys": keys}
    ARCHIVE.with_name("airflow.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def prepare() -> dict[str, str]:
    """The root, its experiment and its site; what lies in the root."""
    shutil.rmtree(PLACE, ignore_errors=True)
    unpack(PLACE)
    values = json.loads(ARCHIVE.with_name("values.json").read_text())
    shutil.copy(ROOT / "jobs" / values["jobs"]["train"] / "experiment.yaml", THERE / "experiments" / "tiny.yaml")
    command = PLACE / "graphufs-jobs"
    control = {"command": str(command), "poll_interval": 2}
    site = {"executor": "local", "lead": 30, "python": "python", "root": str(ROOT), "control": control}
    (PLACE / "sites" / "local.yaml").write_text(json.dumps(site))
    (PLACE / "sites" / "cluster.yaml").unlink()
    command.write_text(
        f"#!/bin/bash\ncd {ROOT}\nexport PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={THERE} JAX_PLATFORMS=cpu"
        f'\nexport GRAPHUFS_SITES={PLACE}/sites\nif [ $1 = submit ] && [[ "$*" = *train.retried* ]]; then'
        f'\n  graphufs-jobs "$@" > /dev/null; touch {PLACE}/submitted; exec sleep 600\nfi\nexec graphufs-jobs "$@"\n'
    )
    command.chmod(0o755)
    return contents()


def contents() -> dict[str, str]:
    """What each file of the root holds."""
    files = [path for path in ROOT.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    files = [path for path in files if ROOT / "cache" not in path.parents]
    return {path.relative_to(PLACE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def runs(api: Any, ending: ExitStack) -> dict[str, str]:
    """The three runs; the keys of the jobs that matter in each."""
    from graphufs.layout import Layout

    from graphufs import configuration
    from jobs.airflow.keys import job_key

    def state(run: str, task: str) -> dict[str, Any]:
        (one,) = [one for one in api.task_instances("training", run) if one["task_id"] == task]
        return dict(one)

    def start(run: str) -> None:
        conf = {"experiment": "tiny", "site": "local", "seed": RUNS[run], "deadline_hours": 24 * 366}
        api.trigger("training", conf, run)

    def hold(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lock = ending.enter_context((folder / ".lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)

    def running(run: str) -> str:
        key: str = job_key("training", run, "train", instance=INSTANCE)
        until(lambda: list((ROOT / "jobs" / key).glob("attempts/1/segments.jsonl")))
        ending.callback(end, key)
        return key

    experiment = THERE / "experiments" / "tiny.yaml"
    for run in ("waiting", "retried"):
        hold(Layout(configuration.load(experiment, [f"training.seed={RUNS[run]}"]), ROOT).run)
    start("finished")
    start("waiting")
    assert api.wait("training", "finished", 1800, tell=print) == "success"
    waiting = running("waiting")
    until(lambda: (state("waiting", "train")["trigger"] or {}).get("triggerer_id"))
    start("retried")
    until((PLACE / "submitted").exists)
    retried = running("retried")
    os.kill(worker(state("retried", "train")["id"]), signal.SIGKILL)
    until(lambda: state("retried", "train")["state"] == "up_for_retry")
    finished = job_key("training", "finished", "train", instance=INSTANCE)
    return {"waiting": waiting, "retried": retried, "finished": finished}


def worker(identity: str) -> int:
    """The process of a task."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"airflow worker -- {identity}" in (folder / "cmdline").read_bytes().decode(errors="replace"):
                return int(folder.name)
        except OSError:
            continue
    raise SystemExit(f"no process of the task {identity}")


def end(key: str) -> None:
    """End a job's processes."""
    attempt = json.loads((ROOT / "jobs" / key / "attempts" / "1" / "attempt.json").read_text())
    with suppress(ProcessLookupError):
        os.killpg(int(attempt["id"]), signal.SIGKILL)


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > 1200:
            raise SystemExit("waited in vain")
        time.sleep(0.2)


def dump(stack: Any) -> bytes:
    """The database as SQL, without what only some versions of psql understand."""
    where = ["--host=127.0.0.1", f"--port={stack.ports['postgresql']}", "--username=airflow", "postgres"]
    done = subprocess.run(
        ["pg_dump", "--no-owner", "--no-privileges", *where],
        env=os.environ | {"PGPASSWORD": stack.secrets["database"]},
        capture_output=True,
        check=True,
    )
    left_out = (b"\\restrict", b"\\unrestrict", b"SET transaction_timeout")
    kept = b"".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith(left_out))
    # The deadline of a trigger, which is kept as JSON, must not come while the tests are of use.
    return re.sub(rb'("deadline": )\d+\.\d+', rb"\g<1>%d.0" % NEVER, kept)


def pack(stack: Any, dumped: bytes, names: list[str]) -> None:
    """Write the archive, without what names this machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    changes = {
        boot: "00000000-0000-0000-0000-000000000000",
        str(Path(sys.executable).parents[1]): "/opt/environment",
        str(THERE): "/opt/graphufs",
        **({} if sys.base_prefix.startswith("/usr") else {sys.base_prefix: "/opt/python"}),
    }

    def neutral(content: bytes) -> bytes:
        for old, new in changes.items():
            content = content.replace(old.encode(), new.encode())
        return re.sub(rb"\b%s\b" % os.uname().nodename.encode(), ELSEWHERE.encode(), content)

    files = {"airflow.sql": neutral(dumped)}
    for name in names:
        path, content = PLACE / name, (PLACE / name).read_bytes()
        if path.name == "reserve":
            content = bytes(len(content))
        elif path.suffix == ".pkl":
            content = with_other_text(content, changes)
        elif path.suffix in TEXTS:
            content = neutral(content)
        files[name] = content
    for name, content in files.items():
        if found := [word for word, secret in stack.secrets.items() if secret.encode() in content]:
            raise SystemExit(f"{name} holds the secret {found}")
    with tarfile.open(ARCHIVE.with_name("airflow-0.1.0.tar.xz"), "w:xz", preset=9, format=tarfile.GNU_FORMAT) as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1767225600  # 2026-01-01
            packed.addfile(info, io.BytesIO(content))


if __name__ == "__main__":
    main()
