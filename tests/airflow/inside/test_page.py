"""The page of models: what it shows, to whom, and what it hands out."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

FORECASTS = {"emulator": 1.0, "persistence": 2.0, "climatology": 3.0}
REPORT, NIGHTS = "runs/tiny/ab/reports/cd.html", "runs/tiny/ab/nightly/00000016/report.html"
HOSTILE = "<script>alert(1)</script>"


def table():
    rmse = [
        {"variable": "2m_temperature", "level": None, "units": "K",
         **{name: {"6h": value, "24h": 2 * value} for name, value in FORECASTS.items()}},
        {"variable": "temperature", "level": 500, "units": "K",
         **{name: {"6h": None, "24h": value} for name, value in FORECASTS.items()}},
    ]  # fmt: skip
    return {"period": "1994-02-01T00..1994-02-03T00", "grid": "8x4", "initial_times": 9, "rmse": rmse}


def model(name, role, **more):
    return {"id": name, "experiment_name": "tiny", "role": role, "registered": "2026-01-02T03:04:05Z", "update": 16,
            "run_folder": "runs/tiny/ab", "checkpoint": "00000016", "periods": {"training": "1994-01-01..1994-01-10"},
            **more}  # fmt: skip


def job(key, **more):
    return {"key": key, "step": "train", "state": "RUNNING", "message": "", "attempt": 1, "segments": 3, "over": False,
            "gpu_hours": 12.5, "queue_wait": 7260.0, "labels": {"dag": "training", "run": "r1"},
            "progress": {"done": 25, "total": 100}, **more}  # fmt: skip


CATALOGUE = {
    "models": [
        model("tiny-ab-16", "champion", cost={"gpu_hours": 4.25}),
        model("tiny-cd-16", "candidate", parent="tiny-ab-16"),
        {"id": 3},
    ],
    "nightly": [{"model": "tiny-ab-16", "initial_times": 9, "latest": table(), "report": NIGHTS,
                 "holes": [{"initial_time": "1994-02-02T00", "why": f"no data {HOSTILE}"}]}],
    "jobs": [job("af-training.train-1"), job("lost-1", state="LOST", gpu_hours=None)],
    "history": [
        {"number": 1, "kind": "registered", "model": "tiny-ab-16", "by": "me", "when": "2026-01-02T03:04:05Z"},
        {"number": 2, "kind": "promoted", "model": "tiny-ab-16", "by": "op", "why": f"better {HOSTILE}",
         "when": "2026-01-03T03:04:05Z", "content": {"evidence": {"note": HOSTILE, "findings": [
             {"variable": "temperature", "level": 500, "lead": "24h", "champion": 2.0, "challenger": 1.83,
              "change": -0.085, "p_value": 0.01}, {"variable": HOSTILE}]}}},
    ],
    "warnings": [HOSTILE],
    "mirrored": "2026-01-03T04:00:00Z",
}  # fmt: skip


@contextmanager
def copy(**more):
    """A copy of the site `quick`, with two reports and a file that no catalogue lists."""
    from jobs.airflow.mirror import read

    with _folder("page-copies"):
        place = read.place("quick")
        files = []
        for path in (REPORT, NIGHTS):
            (place / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            (place / "files" / path).write_text(f"<h1>Report</h1>{HOSTILE}")
            files.append({"path": path, "bytes": 30, "modified": "2026-01-03T00:00:00+00:00"})
        (place / "files" / "unlisted.html").write_text("secret")
        (place / "catalogue.json").write_text(json.dumps({**CATALOGUE, "files": files, **more}))
        yield place


@contextmanager
def _folder(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHUFS_MIRROR", str(Path(name).absolute()))
        yield


def served():
    """The page's application as Airflow mounts it."""
    from airflow.plugins_manager import get_fastapi_plugins
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    (ours,) = [one for one in get_fastapi_plugins()[0] if one["url_prefix"] == "/graphufs"]
    whole = FastAPI()
    whole.mount(ours["url_prefix"], ours["app"])
    return ours["app"], TestClient(whole)


@contextmanager
def somebody(allowed=True):
    """A client who has logged in; Airflow's own answer to whether she may see the page is replaced."""
    from airflow.api_fastapi.core_api import security

    app, client = served()
    manager = SimpleNamespace(is_authorized_view=lambda *, access_view, user: allowed)
    app.dependency_overrides[security.get_user] = lambda: SimpleNamespace(name="her")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(security, "get_auth_manager", lambda: manager)
            yield client
    finally:
        app.dependency_overrides.clear()


def visible(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


@pytest.mark.long  # a process of Airflow, to see what it imports
def test_the_page_is_in_airflows_menu_and_its_plugin_costs_workers_nothing():
    import subprocess
    import sys

    from airflow.plugins_manager import get_plugin_info

    (found,) = [one for one in get_plugin_info() if one["name"] == "graphufs"]
    (view,) = found["external_views"]
    assert view["destination"] == "nav" and view["href"] == "/graphufs/"
    heavy = "('fastapi', 'sqlalchemy.orm.session', 'jobs.airflow.forms.choices')"
    code = "import sys, airflow.plugins_manager as a; before = set(sys.modules); import jobs.airflow.page.plugin; "
    code += f"print([name for name in {heavy} if name in set(sys.modules) - before])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_nobody_sees_anything_without_a_login_or_without_the_right():
    addresses = ["/", "/report", "/file", "/style.css", "/icon"]
    with copy():
        _, client = served()
        query = f"?site=quick&path={REPORT}"
        for address in addresses:
            for headers in ({}, {"Cookie": "_token=forged"}, {"Authorization": "Bearer forged"}):
                answer = client.get(f"/graphufs{address}{query}", headers=headers)
                assert answer.status_code in (401, 403) and "tiny" not in answer.text, (address, headers, answer.text)
        for address in ("/docs", "/openapi.json", "/redoc"):
            assert client.get(f"/graphufs{address}").status_code == 404
        with somebody(allowed=False) as her:
            assert {her.get(f"/graphufs{address}{query}").status_code for address in addresses} == {403}
        with somebody() as her:
            assert {her.get(f"/graphufs{address}{query}").status_code for address in addresses} == {200}


def test_the_page_shows_champion_candidates_nights_jobs_reports_and_history():
    with copy(), somebody() as her:
        answer = her.get("/graphufs/")
    html = answer.text
    text = visible(html)
    for words in ("champion tiny-ab-16", "candidate", "9 initial times", "1 hole", "1994-02-02T00", "4.25 GPU-hours",
                  "2m temperature", "temperature, 500 hPa", "af-training.train-1", "25 %", "12.5 GPU-hours so far",
                  "2.0 h", "2 open", "LOST", "by op", REPORT, "temperature, 500 hPa, 24h 2.000 1.830 -8.5 % 0.010",
                  "2.00 % lower error than its parent’s per GPU-hour", "1 of its models are left out"):  # fmt: skip
        assert words in text, (words, text)
    assert html.count("<polyline") == 6 and html.count('class="dot emulator"') == 3
    assert "<script" not in html and "alert(1)" in html and 'src="http' not in html
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy
    with _folder("nothing-there"), somebody() as her:
        empty = visible(her.get("/graphufs/").text)
    assert (
        "No models yet" in empty
        and "No reports yet" in empty
        and "Nothing was fetched yet from here, local, quick" in empty
    )


def test_nights_of_an_ensemble_show_the_score_of_its_members():
    latest = {**table(), "members": 8, "crps": table()["rmse"]}
    nights = [{**CATALOGUE["nightly"][0], "latest": latest}]
    with copy(nightly=nights), somebody() as her:
        text = her.get("/graphufs/").text
    assert "CRPS by lead time of 8 members" in visible(text) and "RMSE of the ensemble mean" in visible(text)
    for score in ("CRPS", "RMSE"):
        assert f"{score} of 2m temperature by lead time" in text


def test_five_thousand_models_and_decisions_open_in_two_seconds_and_nothing_empties_without_a_word():
    import time

    from jobs.airflow.forms import choices
    from jobs.catalogue_limits import limited

    def when(number):
        return f"2026-01-02T03:04:05.{number:06}Z"

    scores = {"rmse": table()["rmse"] * 8}
    models = [model(f"tiny-{n}", "candidate", registered=when(n), scores=scores) for n in range(5000)]
    models[7]["role"] = "champion"
    findings = CATALOGUE["history"][1]["content"]["evidence"]["findings"][:1] * 16
    history = [
        {"number": n + 1, "kind": "promoted" if n == 7 else "held", "model": f"tiny-{n}", "by": "op", "why": "it is so",
         "when": when(n), "content": {"evidence": {"findings": findings}}}
        for n in range(5000)
    ]  # fmt: skip
    told = limited({**CATALOGUE, "models": models, "history": history})
    assert told["older"] == {"models": 4800, "history": 4800}
    with copy(**{name: told[name] for name in ("models", "history", "older")}) as place, somebody() as her:
        her.get("/graphufs/style.css")
        began = time.process_time()
        text = visible(her.get("/graphufs/").text)
        took = time.process_time() - began
        began = time.process_time()
        offered = choices.models()
        forms = time.process_time() - began
        assert her.get("/graphufs/file", params={"site": "quick", "path": REPORT}).status_code == 200
        assert (place / "catalogue.json").stat().st_size < 8 * 2**20
        (place / "catalogue.json").write_text("{")
        broken = visible(her.get("/graphufs/").text)
        assert "tiny-4999" not in broken and "catalogue.json cannot be read" in broken
        assert "quick" not in broken.partition("Nothing was fetched yet from")[2], "that is said of others alone"
    assert took < 2 and forms < 1, (took, forms)
    assert "champion tiny-7 " in text and "it is so" in text and "and 4,800 older models" in text
    assert offered[2:4] == ["tiny-4999", "tiny-4998"] and len(offered) == 52


def test_reports_are_confined_and_nothing_else_is_handed_out():
    with copy() as place, somebody() as her:
        (place / "files" / "runs" / "link.html").symlink_to(place / "files" / "unlisted.html")
        (place / "files" / "door").symlink_to(place.parent)
        listed = json.loads((place / "catalogue.json").read_text())
        listed["files"] += [
            {"path": path, "bytes": 1, "modified": ""}
            for path in ("runs/link.html", "door/catalogue.json", "../../secret.html", "/etc/passwd", "gone.html")
        ]
        (place / "catalogue.json").write_text(json.dumps(listed))
        (place.parent / "secret.html").write_text("secret")
        good = her.get("/graphufs/file", params={"site": "quick", "path": REPORT})
        assert good.status_code == 200 and "<h1>Report" in good.text
        policy = good.headers["content-security-policy"]
        assert policy.startswith("sandbox;") and "allow-" not in policy and "script" not in policy
        assert good.headers["x-content-type-options"] == "nosniff"
        frame = her.get("/graphufs/report", params={"site": "quick", "path": REPORT}).text
        (attributes,) = re.findall(r"<iframe ([^>]*)>", frame)
        assert "sandbox" in attributes and "allow" not in attributes
        for path in ("unlisted.html", "catalogue.json", "../catalogue.json", "runs/link.html", "door/catalogue.json",
                     "../../secret.html", "/etc/passwd", "..%2f..%2fsecret.html", "%2e%2e/catalogue.json", "gone.html",
                     "....//secret.html", "runs/tiny/ab/reports/../reports/cd.html", "runs//tiny/ab/reports/cd.html",
                     "./" + REPORT, REPORT + "\x00", REPORT + "/", "x" * 3000, ""):  # fmt: skip
            for address in ("file", "report"):
                answer = her.get(f"/graphufs/{address}", params={"site": "quick", "path": path})
                assert answer.status_code in (404, 422) and "secret" not in answer.text.replace(path, ""), path
                answer = her.get(
                    f"/graphufs/{address}?site=quick&path={path.replace('x' * 9, '')}".replace("\x00", "%00")
                )
                assert answer.status_code in (404, 422), path
        for site in ("..", ".", "../quick", "%2e%2e", "quick/files", "/", "", "nowhere", "quick\x00"):
            assert her.get("/graphufs/file", params={"site": site, "path": REPORT}).status_code in (404, 422), site
        for raw in (
            "/graphufs/../secret.html",
            "/graphufs/%2e%2e/secret.html",
            "/graphufs/files/runs",
            "/graphufs//etc",
        ):
            assert her.get(raw).status_code == 404


def test_a_damaged_copy_takes_nothing_down():
    odd = {"nightly": [{"model": "m", "initial_times": 1, "latest": {"rmse": [{"variable": 1}]}}]}
    parts = {"models": 3, "jobs": [None], "nightly": {}, "files": 0, "history": "x", "warnings": 1}
    for damaged in (
        "",
        "[]",
        json.dumps(parts),
        json.dumps(odd),
        json.dumps({**CATALOGUE, "files": [3, {"path": []}]}),
    ):
        with copy() as place, somebody() as her:
            (place / "catalogue.json").write_text(damaged)
            assert her.get("/graphufs/").status_code == 200
            assert her.get("/graphufs/file", params={"site": "quick", "path": REPORT}).status_code == 404
