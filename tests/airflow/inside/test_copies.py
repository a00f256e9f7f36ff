"""Preflight, and the local copy of what sites hold."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.airflow.inside import site


@contextmanager
def holding(held, **more):
    """A site that holds files by path; the commands it was asked."""
    import base64
    import hashlib

    from jobs.airflow.sites.client import Refused, SiteClient

    asked = []

    def run(self, *arguments, stdin="", timeout=0.0):
        asked.append(arguments)
        if arguments[0] == "show":
            listed = [{"path": path, "bytes": len(data), "modified": "1"} for path, data in held.items()]
            return {"protocol": 1, "files": listed, "runs": [], "models": [], **more}
        if arguments[1] not in held or b"gone" in held[arguments[1]]:
            raise Refused("there is no such file")
        data = held[arguments[1]]
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
    monkeypatch.setattr(fetch, "_fetch", lambda client, path, size: (_ for _ in ()).throw(SiteError("broken")))
    with pytest.raises(SiteError):
        mirrored_by({"new.html": b"z"})
    assert copied() == before and read.catalogue("quick") == catalogue, "the old copy stays"


def told_by(files, announced=None, **more):
    """What a refresh says, of a site that announces files by their sizes, and whether they come."""
    from jobs.airflow.mirror import fetch
    from jobs.airflow.sites.client import SiteClient

    said = []
    listed = {} if announced is None else {"files": announced}
    with holding(files, **listed, **more) as asked:
        done = fetch.refresh(SiteClient.load("quick"), "quick", said.append)
    return said, [arguments[1] for arguments in asked if arguments[0] == "fetch"], done


def entry(path, size, modified="1"):
    return {"path": path, "bytes": size, "modified": modified}


def test_what_comes_is_counted_and_a_site_that_sends_more_than_it_said_is_refused_by_name(monkeypatch):
    from jobs.airflow.mirror import fetch

    monkeypatch.setattr(fetch, "LARGEST", 10_000)
    lies = {f"lie{number}.html": b"x" * 8000 for number in range(20)}
    announced = [entry("good.html", 4, "2"), *(entry(path, 1) for path in lies), entry("short.html", 9, "3")]
    said, asked, done = told_by({"good.html": b"good", "short.html": b"12", **lies}, announced)
    assert copied() == {"good.html": b"good"} and done["fetched"] == 1
    assert len(asked) == 4, "after 10,000 bytes that were refused nothing more is asked for"
    for name in ("lie0.html", "lie1.html", "short.html"):
        (line,) = [line for line in said if line.startswith(name)]
        assert "the site says that it has" in line and "sent" in line
    (line,) = [line for line in said if line.startswith("18 files")]
    assert "too much that was refused" in line


def test_lists_of_odd_shapes_are_one_line_each_and_the_others_come():
    good = entry("good/a.html", 1)
    files = {"good/a.html": b"1", "a.html": b"12", "a.html/b.html": b"123"}
    odd = [3, None, [], {"path": 3}, {"path": "c.html", "bytes": "1"}, {"path": "c.html", "bytes": True}]
    announced = [entry("a.html", 2), entry("a.html/b.html", 3), entry("a.html", 2), *odd, good]
    said, _, _ = told_by(files, announced)
    assert copied() == {"good/a.html": b"1", "a.html": b"12"}
    assert len([line for line in said if "a.html" in line and "as if it were a folder" in line]) == 2
    assert len([line for line in said if line.startswith("6 files that the site lists are none")]) == 1
    said, _, _ = told_by(files, [entry("a.html/b.html", 3), good])  # where a file was is now to be a folder
    assert any(line.startswith("a.html/b.html was not fetched") for line in said)
    told_by(files, [entry("a.html/b.html", 3), good])
    assert copied() == {"good/a.html": b"1", "a.html/b.html": b"123"}
    for wrong in ({"files": {"a": 1}}, {"files": 3, "models": "none", "runs": None, "history": 1}):
        told_by({}, wrong["files"], **{name: value for name, value in wrong.items() if name != "files"})
        assert copied() == {}


def test_a_site_that_tells_all_is_cut_to_the_newest_and_a_copy_too_large_fails_by_name(monkeypatch):
    from airflow.sdk.exceptions import AirflowException

    from graphufs.errors import UserError
    from jobs import catalogue_limits
    from jobs.airflow.forms import choices
    from jobs.airflow.mirror import read
    from jobs.airflow.operators.site import MirrorOperator
    from jobs.airflow.page import contents

    monkeypatch.setitem(catalogue_limits.LIMITS, "models", (5, 10**6, "registered"))
    models = [
        {"id": f"m{number}", "experiment_name": "tiny", "registered": f"2026-01-{number:02}", "role": "candidate"}
        for number in range(1, 21)
    ]
    models[2]["role"] = "champion"
    said, _, _ = told_by({}, models=models)
    assert any("15 older models" in line for line in said)
    assert [one["id"] for one in read.catalogue("quick")["models"]] == ["m3", "m20", "m19", "m18", "m17"]
    assert choices.models()[2:4] == ["m20", "m19"]
    shown = contents.site("quick")
    assert len(shown.models) == 5 and any("15 older models" in words for words in shown.warnings)
    with (
        holding({}, champions={"x": "y" * read.LARGEST}),
        pytest.raises(AirflowException, match="the old copy is kept"),
    ):
        MirrorOperator(task_id="m", site="quick").execute({})
    path = read.place("quick") / "catalogue.json"
    for content in ("", "[]", "{" * 10, '{"x": "' + "y" * read.LARGEST + '"}'):
        path.write_text(content)
        with pytest.raises(UserError, match=r"catalogue.json cannot be read"):
            read.catalogue("quick")
        assert "cannot be read" in contents.site("quick").warnings[0] and choices.models() == ["champion", "latest"]
    said, _, _ = told_by({}, models=models)
    assert "cannot be read" in said[0] and len(contents.site("quick").models) == 5


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
