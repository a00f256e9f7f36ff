"""What years of nights leave with and without housekeeping: disk, files, Airflow's rows, and the time of a night.

    python benchmarks/growth.py                       # all three parts; exit code 1 if a bound is missed
    python benchmarks/growth.py segments --nights 2000

`segments`  prepared data of so many nights, a segment each, opened before and after their months are merged.
`nights`    a root of `tiny` with a real first night and two years of made-up ones, cleaned as a daily run would leave
            it; then real nights, timed against the first.
`airflow`   the rows of two years of runs in the database of a real Airflow (SQLite), cleaned by `airflow db clean`.

What is made up: segments have the frames of one real segment, or noise; the forecasts and scores of past nights are
copies of those of the real first night, aged by their times of change; the nightly scores of two years are those of the
first night at other initial times. Rows have what the tables require and no more. All else is what runs in use.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.cli.app import take
from graphufs.cli.clean import tidy
from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data import merge
from graphufs.data.channels import PreparedChannel
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import SEGMENTS, STATIC, Header, Manifest, Segment
from graphufs.data.segments import segment_name
from graphufs.data.static_fields import write_static
from graphufs.data.zarr_segment import create
from graphufs.housekeeping.retention import Retention
from graphufs.nightly.scores import NightlyScores
from graphufs.registry import registry
from graphufs.steps import CHAINS, never_stop
from graphufs.storage.checksums import files_of
from graphufs.storage.paths import Paths
from graphufs.weatherbench.results.scores import Scores
from graphufs.weatherbench.scoring.score_state import ScoreState

REPOSITORY = Path(__file__).parents[1]
OPEN_SECONDS = 1.0
"""2,000 nights of prepared data, merged, are to open in less; CPU time, as machines are shared."""
KEPT_NIGHTS = 62
"""Nights of which everything is there, at most: those of the 30 days that things are kept, and of their months."""
NIGHT_RATIO = 1.5
"""So many times the CPU time of the first may a night after two years take: the scores it is merged with grow."""
AIRFLOW_DAYS = 90
RUNS_A_DAY = {"reconcile": (96, 3), "catalogue": (24, 1), "nightly_evaluation": (1, 9), "housekeeping": (1, 2)}
"""By DAG, its runs a day and the tasks of a run."""
DAY = 86400.0
STAMPS = 4
"""A night's, 6-hourly."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("segments", "nights", "airflow"), help="default: all")
    parser.add_argument("--nights", type=int, default=2000, help="of the part `segments`")
    parser.add_argument("--days", type=int, default=730, help="of the other parts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        if given.part in (None, "segments"):
            figures["segments"] = found = segments(Path(folder) / "data", given.nights)
            if found["merged"]["open_cpu_s"] >= OPEN_SECONDS:
                missed.append(f"merged data opened in {found['merged']['open_cpu_s']:.2f} CPU s, not {OPEN_SECONDS}")
        if given.part in (None, "nights"):
            figures["nights"] = found = nights(Path(folder) / "root", given.days)
            missed += found.pop("missed")
        if given.part in (None, "airflow"):
            figures["airflow"] = found = airflow(Path(folder) / "airflow", given.days)
            if found["rows_after"] > 1.1 * found["rows_before"] * (AIRFLOW_DAYS + 1) / given.days:
                missed.append(f"{found['rows_after']} rows are left of {found['rows_before']}")
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


# Prepared data


def segments(folder: Path, count: int) -> dict[str, Any]:
    write_nights(folder, count)
    before = PreparedData.open(folder)
    frames = before.read(before.stamps).tobytes()
    figures = {"nights": count, "as_written": opened(folder)}
    began = time.process_time()
    merge.merge(folder, should_stop=never_stop)
    figures["merging_cpu_s"] = round(time.process_time() - began, 2)
    merge.remove_expired(folder, time.time() + DAY)
    figures["merged"] = opened(folder)
    after = PreparedData.open(folder)
    if after.read(after.stamps).tobytes() != frames:
        raise SystemExit("the frames after merging are not those before")
    return figures


def write_nights(folder: Path, count: int, first: str = "2000-01-01T00") -> None:
    """Prepared data of noise, a segment for each of `count` nights; all are copies of one but for the manifest."""
    latitude, longitude = np.linspace(80.0, -80.0, 4), np.arange(8) * 45.0
    channels = (PreparedChannel("pressfc", None, None), PreparedChannel("tmp", 500.0, 505.65))
    header = Header(6, "fv3", channels, (), {}, latitude, longitude, latitude)
    write_static(folder / STATIC, header, np.ones((2, 4, 8), bool), {})
    manifest = replace(Manifest(header), static=files_of(folder / STATIC))
    template = folder / SEGMENTS / ".template"
    template.parent.mkdir()
    stamps = np.datetime64(first, "ns") + np.arange(STAMPS) * np.timedelta64(6, "h")
    array, _ = create(template, stamps, channels, latitude, longitude)
    array[:] = np.random.default_rng(0).standard_normal(array.shape, np.float32)
    copies(manifest, folder, template, [stamps + np.timedelta64(night, "D") for night in range(count)]).write(folder)
    shutil.rmtree(template)


def copies(manifest: Manifest, folder: Path, template: Path, stamps: Sequence[np.ndarray]) -> Manifest:
    """The manifest with a copy of one segment for each array of stamps [frame]."""
    files, made = files_of(template), []
    for those in stamps:
        shutil.copytree(template, folder / SEGMENTS / segment_name(those))
        made.append(Segment(segment_name(those), those, {}, files))
    return manifest.with_segments([*manifest.segments, *made])


def opened(folder: Path) -> dict[str, Any]:
    walls, times = [], []
    for _ in range(3):
        began, wall = time.process_time(), time.perf_counter()
        PreparedData.open(folder)
        times.append(time.process_time() - began)
        walls.append(time.perf_counter() - wall)
    return {"open_cpu_s": round(min(times), 3), "open_wall_s": round(min(walls), 3), **size(folder)}


def size(folder: Path) -> dict[str, Any]:
    """Files and folders below a folder, and their bytes."""
    inodes, total = 0, 0
    for place, folders, names in os.walk(folder):
        inodes += len(folders) + len(names)
        total += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
    return {"inodes": inodes, "mib": round(total / 2**20, 2)}


# Nights


def nights(root: Path, days: int) -> dict[str, Any]:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "cache" / "jax")
    experiment = loading.load(loading.EXPERIMENTS / "tiny.yaml")
    take(("prepare", "normalize", "train", "forecast", "evaluate", "register"), experiment, root)
    tonight = date(2026, 1, 1)
    _night(experiment, root, tonight)  # compiles
    model = registry.choose(root, experiment.name)
    assert model is not None
    run = root / model.run_folder
    base = size(root)
    first, own = _night(experiment, root, tonight + timedelta(days=1))
    a_night = {name: round(size(root)[name] - base[name], 2) for name in base}
    _make_up(root, run, own, days)
    grown = size(root)
    found = tidy(root, Retention(), yes=True)
    later = time.time() + 31 * DAY  # segments that were merged go a month later
    for folder in (root / "data").iterdir():
        merge.remove_expired(folder, later)
    cleaned = size(root)
    last = [_night(experiment, root, tonight + timedelta(days=2 + more))[0] for more in range(3)]
    bound = base["inodes"] + KEPT_NIGHTS * a_night["inodes"]
    missed = [f"could not be removed: {line}" for line in found["failed"]]
    if cleaned["inodes"] > bound:
        missed.append(f"{cleaned['inodes']} files and folders are left, not {bound}")
    if min(last) > NIGHT_RATIO * first:
        missed.append(f"a night takes {min(last):.1f} CPU s after {days} days, the first took {first:.1f}")
    return {
        "days": days,
        "before_any_night": base,
        "a_night_adds": a_night,
        "without_housekeeping": grown,
        "with_housekeeping": cleaned,
        "bound_inodes": bound,
        "first_night_cpu_s": round(first, 2),
        "last_nights_cpu_s": [round(one, 2) for one in last],
        "missed": missed,
    }


def _night(experiment: Experiment, root: Path, night: date) -> tuple[float, Experiment]:
    """A real night; its CPU time [s], and the experiment that was planned."""
    began = time.process_time()
    results = take(CHAINS["nightly"], experiment, root, request=loading.request({"night": night}))
    if results[-1]["step"] != "record_nightly":
        raise SystemExit(f"the night of {night} found nothing to do: {results[-1].get('message')}")
    planned = next(one["experiment"] for one in results if one["step"] == "plan_nightly")
    return time.process_time() - began, loading.parse(planned, origin="the plan")


def _make_up(root: Path, run: Path, night: Experiment, days: int) -> None:
    """Two years of nights before the real ones: segments, forecasts and scores of each, and the scores of all."""
    paths = Paths(night, root)
    manifest = Manifest.read(paths.data)
    assert manifest is not None
    newest = manifest.segments[-1]
    long_ago = newest.stamps - np.timedelta64(100 * 365, "D")
    there = [long_ago + np.timedelta64(number, "D") for number in range(days)]
    copies(manifest, paths.data, paths.data / SEGMENTS / newest.name, there).write(paths.data)
    for number in range(days):
        name = {kind: f"{number:012x}" for kind in ("forecasts", "scores")}
        forecasts = paths.forecasts.with_name(f"{name['forecasts']}.zarr")
        shutil.copytree(paths.forecasts, forecasts)
        scores = paths.scores.with_name(f"{name['scores']}.zarr")
        shutil.copytree(paths.scores, scores)
        shutil.copy2(paths.scores.with_suffix(".csv"), scores.with_suffix(".csv"))
        for file in (".zattrs", ".zmetadata"):
            text = (scores / file).read_text()
            (scores / file).write_text(text.replace(paths.hashes["forecasts"], name["forecasts"]))
        _age(forecasts, days - number)
        _age(scores, days - number)
    (place,) = (NightlyScores(folder) for folder in (run / "nightly").iterdir())
    scores_so_far = place.open()
    assert scores_so_far is not None
    states = {name: _longer(state, days) for name, state in scores_so_far.states().items()}
    attributes = {
        key: value for key, value in scores_so_far.dataset.attrs.items() if key not in ("initial_times", "sha256")
    }
    variables = {str(name): scores_so_far.dataset[name].attrs for name in scores_so_far.dataset.data_vars}
    place.write(Scores.from_states(states, attributes, variables, scores_so_far.diagnostics))


def _longer(state: ScoreState, days: int) -> ScoreState:
    """A state with those of its first initial time at two more of each day, all before it."""
    longer = state.select(state.initial_times)
    averages = state.select(state.initial_times[:1]).stacked()[0]
    for number in range(1, 2 * days + 1):
        longer.update(state.initial_times[0] - number * np.timedelta64(12, "h"), averages)
    return longer


def _age(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.utime(os.path.join(place, name), (then, then))
        os.utime(place, (then, then))


# Airflow


def airflow(home: Path, days: int) -> dict[str, Any]:
    from jobs.airflow.cleanup import clean_database

    program = REPOSITORY / ".venv-airflow" / "bin" / "airflow"
    with _environment(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"),
        PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}",
    ):
        subprocess.run([program, "db", "migrate"], check=True, capture_output=True)
        database = home / "airflow.db"
        fill(database, days)
        before, bytes_before = rows(database), database.stat().st_size
        began = time.perf_counter()
        would = clean_database(list(RUNS_A_DAY), AIRFLOW_DAYS, dry_run=True)
        if any(count < before[table] for table, count in rows(database).items()):  # the command notes itself in `log`
            raise SystemExit("a dry run removed rows")
        gone = clean_database(list(RUNS_A_DAY), AIRFLOW_DAYS, dry_run=False)
        after = rows(database)
    return {
        "days": days,
        "kept_days": AIRFLOW_DAYS,
        "rows_before": sum(before.values()),
        "rows_after": sum(after.values()),
        "by_table": {table: [before[table], after.get(table, 0)] for table in before},
        "mib_before": round(bytes_before / 2**20, 1),
        "dry_run_says": would,
        "removed": gone,
        "wall_s": round(time.perf_counter() - began, 1),
    }


def fill(database: Path, days: int) -> None:
    """Insert the runs of so many days up to now, each with its tasks, an XCom a task and what the log notes."""
    connection = sqlite3.connect(database)
    now = datetime.now(UTC).replace(tzinfo=None)
    _insert(connection, "dag_bundle", [{"name": "dags"}])
    for dag, (a_day, tasks) in RUNS_A_DAY.items():
        _insert(connection, "dag", [{"dag_id": dag, "bundle_name": "dags"}])
        version = f"{abs(hash(dag)):032x}"[-32:]
        _insert(
            connection, "dag_version", [{"id": version, "version_number": 1, "dag_id": dag, "created_at": str(now)}]
        )
        runs: list[dict[str, Any]] = []
        instances: list[dict[str, Any]] = []
        values: list[dict[str, Any]] = []
        notes: list[dict[str, Any]] = []
        base = connection.execute("select coalesce(max(id), 0) from dag_run").fetchone()[0]
        for number in range(days * a_day):
            when = str(now - timedelta(days=number / a_day))
            run = {"dag_id": dag, "run_id": f"scheduled__{number}"}
            times = {"start_date": when, "end_date": when}
            own = {"id": base + number + 1, "state": "success", "run_type": "scheduled", "logical_date": when}
            runs.append({**run, **times, **own, "run_after": when, "created_dag_version_id": version})
            for task in range(tasks):
                one = {**run, "task_id": f"task_{task}"}
                key = f"{base + number + 1:024x}{task:08x}"
                instances.append({**one, **times, "id": key, "state": "success", "dag_version_id": version})
                values.append({**one, "dag_run_id": base + number + 1, "key": "return_value", "timestamp": when})
                notes.append({**one, "dttm": when, "event": "success"})
        for table, made in (("dag_run", runs), ("task_instance", instances), ("xcom", values), ("log", notes)):
            _insert(connection, table, made)
    connection.commit()
    connection.close()


def _insert(connection: sqlite3.Connection, table: str, made: Sequence[dict[str, Any]]) -> None:
    """Insert rows; columns that must have a value and are not given get an empty one of their type."""
    empty: dict[str, Any] = {}
    for _, name, kind, must, default, _ in connection.execute(f"pragma table_info({table})"):
        if must and default is None and (name != "id" or name in made[0]):  # an `id` that is not given is counted
            number = kind in ("INTEGER", "BOOLEAN", "FLOAT")
            empty[name] = 0 if number else "2000-01-01" if "TIME" in kind else "{}" if kind == "JSON" else ""
    names = sorted({*empty, *made[0]})
    marks = ", ".join("?" for _ in names)
    connection.executemany(
        f"insert into {table} ({', '.join(names)}) values ({marks})",
        [[{**empty, **row}[name] for name in names] for row in made],
    )


def rows(database: Path) -> dict[str, int]:
    """The rows of the tables that grow, and of what may be left of cleaning."""
    connection = sqlite3.connect(database)
    tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
    counts = {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in tables}
    connection.close()
    grown = ("dag_run", "task_instance", "xcom", "log", "dag_version")
    return {name: count for name, count in counts.items() if name in grown or name.startswith("_airflow_deleted")}


@contextmanager
def _environment(**changed: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


if __name__ == "__main__":
    sys.exit(main())
