"""Nightly evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.airflow.inside import bag, events, run, states_of, xcoms


@pytest.mark.long  # what lands shows a night in containers (tests/compose)
def test_a_night_scores_what_is_new_a_repeated_one_is_skipped_and_the_mirror_shows_it(trained):
    from jobs.airflow.forms import choices
    from jobs.airflow.mirror import read

    root = Path(os.environ["GRAPHUFS_ROOT"])
    (model,) = [event["model"] for event in events("graphufs_checkpoint")]
    publish = ["forecast.products=[netcdf]"]
    wish = {"experiment": "tiny", "site": "here", "at_most": 50, "night": "2026-03-01", "overrides": publish}
    done = run("nightly_evaluation", **wish)
    assert set(states_of(done).values()) == {"success"}, states_of(done)
    times = xcoms(done, "plan_nightly")["initial_times"]
    assert len(list((root / "published" / model).glob("*/*/*.nc"))) == xcoms(done, "publish")["new"] == len(times)
    (event,) = events("graphufs_scores")
    assert (event["model"], event["experiment"], event["night"]) == (model, "tiny", "2026-03-01")
    assert event["added"] == len(xcoms(done, "plan_nightly")["initial_times"]) > 0
    again = run("nightly_evaluation", **wish)
    states = states_of(again)
    assert states.pop("check") == states.pop("extend_world") == "success" and set(states.values()) == {"skipped"}
    assert "nothing new" in xcoms(again, "plan_nightly")["result"]["message"]
    assert len(events("graphufs_scores")) == 1 and again.state == "success"
    seen = read.catalogue("here")
    assert [one["id"] for one in seen["models"]] == [model] == [one["model"] for one in seen["nightly"]]
    assert model in choices.models() and "experiment" not in seen["models"][0]
    report = read.place("here") / "files" / event["report"]
    assert report.read_bytes() == (root / event["report"]).read_bytes() and report.suffix == ".html"


def test_a_night_is_asked_for_by_form_event_or_setting(monkeypatch):
    from datetime import date

    from graphufs.config import loading
    from graphufs.errors import UserError
    from jobs.airflow.forms import nightly

    form = {"experiment": "tiny", "site": "here", "model": "latest", "overrides": ["forecast.lead_time=48h"]}
    rest = {"at_most": None, "night": None, "deadline_hours": 20}
    found = nightly.asked({**form, **rest, "at_most": 3}, None, date(2026, 3, 1))
    experiment = loading.parse(found["experiment"])
    assert found["request"] == {"model": "latest", "night": "2026-03-01"} and experiment.nightly.at_most == 3
    assert found["night"] == "2026-03-01" and experiment.forecast.lead_time == 48
    chosen = nightly.asked({**form, **rest, "night": "2026-02-27"}, None, date(2026, 3, 1))
    assert (
        chosen["night"] == chosen["request"]["night"] == "2026-02-27"
        and loading.parse(chosen["experiment"]).nightly.at_most == 4
    )

    event = {"experiment": "tiny", "site": "here", "model": "tiny-ab-16", "overrides": ["nightly.at_most=1"]}
    nobody = {"experiment": None, "site": None, "model": "champion", "overrides": [], **rest}
    told = nightly.asked(nobody, event, date(2026, 3, 1))
    assert (
        told["model"] == told["request"]["model"] == "tiny-ab-16"
        and loading.parse(told["experiment"]).nightly.at_most == 4
    )
    with pytest.raises(UserError, match="graphufs_nightly_experiment"):
        nightly.asked(nobody, None, date(2026, 3, 1))
    with monkeypatch.context() as patch:
        patch.setenv("GRAPHUFS_NIGHTLY_EXPERIMENT", "demo")
        patch.setenv("AIRFLOW_VAR_GRAPHUFS_NIGHTLY_SITE", "here")
        by_clock = nightly.asked(nobody, None, date(2026, 3, 1))
    assert (by_clock["name"], by_clock["site"], by_clock["model"]) == ("demo", "here", "champion")
    for wrong, words in (
        ({"site": "../../x"}, "no site"),
        ({"experiment": "../tiny"}, "no experiment"),
        ({"experiment": ["tiny"]}, "no name"),
        ({"model": "{{ conn.x }}"}, "is no model"),
        ({"model": "--help"}, "is no model"),
        ({"overrides": "training.seed=1"}, "no list"),
        ({"overrides": ["normalization.dask=tcp://elsewhere:1"]}, "names a place"),
    ):
        with pytest.raises(UserError, match=words):
            nightly.asked(nobody, {**event, **wrong}, date(2026, 3, 1))
        with pytest.raises(UserError, match=words):
            nightly.asked({**form, **rest, **wrong}, None, date(2026, 3, 1))
    with pytest.raises(UserError, match="nightly.night is given both"):
        nightly.asked({**form, **rest, "overrides": ["nightly.night=2026-01-01"]}, None, date(2026, 3, 1))
    with pytest.raises(UserError, match="night: .*'tonight'"):
        nightly.asked({**form, **rest, "night": "tonight"}, None, date(2026, 3, 1))


def test_of_several_events_the_newest_counts_and_the_others_get_runs_of_their_own(monkeypatch):
    from datetime import UTC, datetime

    from airflow.sdk.execution_time import task_runner

    from jobs.airflow.forms import nightly

    def event(minute, **extra):
        return SimpleNamespace(extra=extra, timestamp=datetime(2026, 3, 1, 0, minute, tzinfo=UTC))

    tiny, demo = ({"experiment": name, "site": "here", "model": f"{name}-ab-1"} for name in ("tiny", "demo"))
    triggering = {
        "checkpoint": [event(1, **tiny, scores={}), event(3, **demo, overrides=[]), event(2, **tiny)],
        "champion": [event(4)],
    }
    assert nightly.extras(triggering) == [demo, tiny] and nightly.extras(None) == []
    sent = []
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=sent.append), raising=False)
    assert nightly.trigger("nightly_evaluation", "r", [tiny]) == ["also_1_of__r"]
    assert sent[0].conf == tiny and sent[0].dag_id == "nightly_evaluation" and sent[0].logical_date is None


def test_the_night_goes_by_clock_or_asset_one_at_a_time_and_can_be_filled_in_backwards():
    from datetime import UTC, datetime

    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import sync_bag_to_db
    from airflow.models.backfill import ReprocessBehavior, _create_backfill
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    found = bag()
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(found, "dags-folder", None)
    dag = found.dags["nightly_evaluation"]
    assert dag.max_active_runs == 1 and not dag.catchup
    assert {asset.name for asset in dag.timetable.asset_condition.objects} == {
        "graphufs_checkpoint",
        "graphufs_champion",
    }
    _create_backfill(
        dag_id="nightly_evaluation", from_date=datetime(2026, 1, 1, tzinfo=UTC),
        to_date=datetime(2026, 1, 3, 12, tzinfo=UTC), max_active_runs=1, reverse=False, triggering_user_name="somebody",
        dag_run_conf={"experiment": "tiny", "site": "here"}, reprocess_behavior=ReprocessBehavior.NONE,
    )  # fmt: skip
    with create_session() as session:
        wanted = (DagRun.dag_id == "nightly_evaluation") & (DagRun.run_type == "backfill")
        runs = session.scalars(select(DagRun).where(wanted).order_by(DagRun.logical_date)).all()
    assert [f"{run.logical_date:%Y-%m-%d}" for run in runs] == ["2026-01-01", "2026-01-02", "2026-01-03"]
