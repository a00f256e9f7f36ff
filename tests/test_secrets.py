"""A marked credential at every place where an experiment takes one, looked for in all that a run leaves and says."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from graphufs.cli import main as graphufs
from graphufs.config import loading
from graphufs.config.credentials import held
from graphufs.masking import hide
from graphufs.storage.paths import Paths
from jobs.airflow.mirror import fetch
from jobs.cli import main as jobs
from jobs.job.folder import CREDENTIALS, JobFolder
from tests.conftest import TINY
from tests.support.lookalike import build_atmosphere
from tests.support.object_server import ObjectServer
from tests.support.private import command_lines

MARK = "MARKER83d7"
VARIABLES = ("pressfc", "tmp", "land_static", "dswrf_avetoa")


def with_marker(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]


@contextmanager
def processes_watched() -> Iterator[dict[str, int]]:
    """Look at what every user sees of all processes, again and again; how often, and how often the marker was there."""
    over, counted = threading.Event(), {"looks": 0, "marked": 0}

    def watch() -> None:
        while not over.wait(0.05):
            counted["looks"] += 1
            counted["marked"] += MARK in command_lines()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield counted
    finally:
        over.set()
        watcher.join()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_marker_is_found_nowhere_but_in_the_file_meant_for_it(tmp_path, monkeypatch, capsys):
    served, root = tmp_path / "served", tmp_path / "root"
    build_atmosphere(served / "fv3.zarr", count=76, step_hours=6, variables=VARIABLES)
    named = tmp_path / "credentials.yaml"
    named.write_text(f"mine: {{secret: {MARK}named}}\n")
    named.chmod(0o600)
    monkeypatch.setenv("GRAPHUFS_CREDENTIALS", str(named))
    monkeypatch.setenv("GRAPHUFS_MIRROR", str(tmp_path / "mirror"))
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    said: list[str] = []

    def command(*words, code=0, program=graphufs.main):
        with pytest.raises(SystemExit) as ended:
            program(list(map(str, words)))
        told = capsys.readouterr()
        said.append(told.out + told.err)
        assert ended.value.code == code, hide(said[-1])
        return said[-1]

    class Site:
        """What fetches a site's catalogue asks it."""

        def run(self, *words):
            answer = command(*words, "--json", "--root", root, program=jobs.main)
            return json.loads(answer[: answer.rindex("}") + 1])

    with ObjectServer(served).running() as server:
        server.admits = lambda path, authorization: f"Credential={MARK}key/" in authorization
        url, options = server.address("s3", "fv3.zarr")
        content = yaml.safe_load(TINY.read_text())
        content["data"]["source"] = {
            "url": url,
            "storage": "mine",
            "storage_options": {"key": f"{MARK}key", "endpoint_url": options["endpoint_url"], "retry_for": 5},
        }
        content["training"]["tracking"] = {"mlflow": True}
        content["normalization"] = {"storage_options": {"token": f"{MARK}statistics"}}
        content["evaluation"]["era5"] = {
            "url": f"https://me:{MARK}user@127.0.0.1:1/era5.zarr?X-Amz-Signature={MARK}signature&member={MARK}member",
            "climatology": f"https://{MARK}token@127.0.0.1:1/climatology.zarr",
            "storage_options": {"client_kwargs": {"headers": {"Authorization": f"Bearer {MARK}header"}}},
        }
        written = tmp_path / "secretive.yaml"
        written.write_text(yaml.safe_dump(content))
        command("run", written, "--root", root)
        command("register", written, "--root", root)
        for words in (("show", written), ("show", written, "--json"), ("models", "list")):
            command(*words, "--root", root)
        assert Paths(loading.load(written), root).report.exists()
        with closing(sqlite3.connect(root / "mlflow" / "mlflow.db")) as database:
            assert dict(database.execute("select key, value from params"))["data.time_step"] == "6h"
        assert list((root / "mlflow" / "artifacts").rglob("experiment.yaml"))
        assert fetch.refresh(Site(), "here", said.append)["files"] >= 1
        # wrong ones are refused in a line that does not repeat them
        elsewhere = ("--root", tmp_path / "other")
        content["data"]["source"]["storage_options"]["key"] = f"{MARK}wrong"
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(yaml.safe_dump(content))
        assert "403" in command("check", wrong, *elsewhere, code=2) or "Forbidden" in said[-1]
        command("check", written, *elsewhere, "--set", "evaluation.truth=era5", code=2)
        named.chmod(0o644)
        assert "chmod 600" in command("check", written, *elsewhere, code=2)
        named.chmod(0o600)
        # as a job: refused with the wrong ones; with the right ones the same job goes on
        for path, ending, code in ((wrong, "bad_input", 1), (written, None, 0)):
            words = ("submit", "prepare", path, "--wait", *elsewhere)
            with processes_watched() as counted:
                command(*words, code=code, program=jobs.main)
            assert counted["looks"] > 5 and counted["marked"] == 0
            (job,) = JobFolder.all(tmp_path / "other")
            note = job.folder(job.attempts()[-1]) / "ending.json"
            assert (json.loads(note.read_text())["ending"] if note.exists() else None) == ending
            assert MARK not in "".join(path.read_text() for path in job.logs(job.attempts()[-1]))
        # Airflow logs what it is told of a job, and keeps it as XCom
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"jobs": {job.key: {}}})))
        assert "403" in command("poll", "--json", *elsewhere, program=jobs.main) or "Forbidden" in said[-1]
        for words in (("status",), ("status", job.key, "--history"), ("list", "--json"), ("show", "--json")):
            command(*words, *elsewhere, program=jobs.main)
    assert with_marker(root) == with_marker(tmp_path / "mirror") == []
    assert list((tmp_path / "mirror").rglob("*.html"))
    kept = with_marker(tmp_path / "other")
    assert kept == [job.path / CREDENTIALS] and stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    assert not [text for text in said if MARK in text]
    assert held(loading.load(Paths(loading.load(written), root).run / "experiment.yaml")) == {}
    assert str(held(job.experiment())).count(MARK) == 7
