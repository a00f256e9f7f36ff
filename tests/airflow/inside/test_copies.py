"""Preflight, and the local copy of what sites hold."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.airflow.inside import site


@contextmanager
def holding(files, **more):
    """A site that holds files by path; the commands it was asked."""
    import base64
    import hashlib

    from jobs.airflow.sites.client import Refused, SiteClient

    asked = []

    def run(self, *arguments, stdin="", timeout=0.0):
        asked.append(arguments)
        if arguments[0] == "show":
            listed = [{"path": path, "bytes": len(data), "modified": "1"} for path, data in files.items()]
            return {"protocol": 1, "files": listed, "runs": [], "models": [], **more}
        if arguments[1] not in files or b"gone" in files[arguments[1]]:
            raise Refused("there is no such file")
        data = files[arguments[1]]
        digest = hashlib.sha256(data).hexdigest()
        return {"protocol": 1, "base64": base64.b64encode(data).decode(), "sha256": digest}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SiteClient, "run", run)
        yield asked


def copied():
    from jobs.airflow.mirror import read

    place = read.place("quick") / "files"
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def mirrored_by(files, **more):
    from jobs.airflow.mirror import fetch
    from jobs.airflow.sites.client import SiteClient

    with holding(files, **more) as asked:
        done = fetch.refresh(SiteClient.load("quick"), "quick", lambda words: None)
    return done, [arguments[1] for arguments in asked if arguments[0] == "fetch"]


def test_the_copy_follows_the_site_and_fetches_only_what_changed():
    from jobs.airflow.mirror import read

    one, two = "runs/tiny/ab/reports/cd.html", "runs/tiny/ab/nightly/00000016/report.html"
    done, fetched = mirrored_by({one: b"first", two: b"second"})
    assert set(fetched) == {one, two} and copied() == {one: b"first", two: b"second"} and done["fetched"] == 2
    _, fetched = mirrored_by({one: b"first", two: b"second, longer"}, models=[{"id": "m", "registered": "2"}])
    assert fetched == [two] and copied()[two] == b"second, longer"
    assert read.models(["quick", "here"]) == ["m"]
    left = read.place("quick") / "files" / "runs" / ".report.html.tmp"
    left.write_text("half")
    mirrored_by({one: b"first"})
    assert copied() == {one: b"first"} and not (left.parent / "tiny" / "ab" / "nightly").exists()
    assert [file["path"] for file in read.catalogue("quick")["files"]] == [one]
    _, fetched = mirrored_by({one: b"gone since"})
    assert fetched == [one] and copied() == {} and read.catalogue("quick")["files"] == []


def test_a_site_writes_nowhere_but_in_its_copy_and_no_more_than_it_may(monkeypatch):
    from jobs.airflow.mirror import fetch, read
    from jobs.airflow.sites.client import SiteError

    hostile = ["../stolen.html", "/tmp/stolen.html", "a/../../b.html", ".ssh/x.html", "a//b.html", "a/b.sh", "-a.html",
               "a\x00.html", "a\n.html", ""]  # fmt: skip
    _, fetched = mirrored_by({**{path: b"x" for path in hostile}, "good/a.html": b"y"})
    assert fetched == ["good/a.html"] and copied() == {"good/a.html": b"y"}
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "LARGEST", 3)
        patch.setattr(fetch, "TOTAL", 4)
        _, fetched = mirrored_by({"a.html": b"1234", "b.html": b"123", "c.html": b"12", "d.html": b"1"})
    assert copied().keys() == {"b.html", "d.html"} and read.catalogue("quick")["left_out"] == ["a.html", "c.html"]

    before, catalogue = copied(), read.catalogue("quick")
    monkeypatch.setattr(fetch, "_fetch", lambda client, path: (_ for _ in ()).throw(SiteError("broken")))
    with pytest.raises(SiteError):
        mirrored_by({"new.html": b"z"})
    assert copied() == before and read.catalogue("quick") == catalogue, "the old copy stays"


def test_a_site_that_cannot_be_asked_keeps_its_old_copy_and_pauses_a_preflight(monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

    from jobs.airflow.mirror import read
    from jobs.airflow.operators.site import MirrorOperator, PreflightOperator
    from jobs.airflow.sites.client import SiteClient, Unreachable

    before = read.catalogue("quick")
    with site(Unreachable("no route")):
        with pytest.raises(AirflowSkipException, match="the old copy is kept"):
            MirrorOperator(task_id="m", site="quick").execute({})
        with pytest.raises(TaskDeferred) as caught:
            PreflightOperator(task_id="p", site="quick").execute({})
    assert read.catalogue("quick") == before
    event = {"site": "quick", "deadline": caught.value.trigger.deadline, "late": False}
    found = [{"what": "root folder", "good": True, "words": "fine"}, {"what": "GPU", "good": None, "words": "none"}]
    asked = []

    def run(self, *arguments, **_):
        asked.append(arguments)
        return {"protocol": 1, "findings": found}

    monkeypatch.setattr(SiteClient, "run", run)
    task = PreflightOperator(task_id="p2", site="quick", job_resources=["train.gpus=2"])
    assert task.execute_again({}, event) == found
    found.append({"what": "train job", "good": False, "words": "no such partition"})
    with pytest.raises(AirflowFailException, match="is not ready: train job: no such partition"):
        task.execute({})
    with pytest.raises(AirflowFailException, match="was unreachable"):
        task.execute_again({}, {**event, "late": True})
    assert asked[0] == ("sites", "--check", "--resource=train.gpus=2")


def test_the_pools_of_all_sites_are_told():
    from jobs.airflow.pools import pools

    assert {"graphufs", "quick-pool"} == set(pools())
    assert all(pool["slots"] > 0 and pool["include_deferred"] is False for pool in pools().values())
