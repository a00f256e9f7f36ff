"""Credentials in experiments: Airflow keeps and hands on none, so it asks to have them named."""

from __future__ import annotations

import pytest

from tests.airflow.inside import ROOT, RUNNING, context, deferral, operator, run, site

MARK = "MARKER2be4"
HOLDING = f"data.source.storage_options={{key: {MARK}}}"
FORMS = (HOLDING, f"data.source.url=https://me:{MARK}@host/x", f"description=https://host/x?sig={MARK}")


def test_an_experiment_that_holds_some_is_submitted_nowhere(tmp_path):
    from airflow.sdk.exceptions import AirflowFailException

    file = tmp_path / "secretive.yaml"
    file.write_text((ROOT / "experiments" / "tiny.yaml").read_text().replace(
        "{url: embedded}", f"{{url: embedded, storage_options: {{key: {MARK}}}}}"))  # fmt: skip
    with site({**RUNNING, "what": "submitted"}) as asked:
        for task in (operator(experiment=str(file)), operator(overrides=[HOLDING])):
            with pytest.raises(AirflowFailException, match=r"data.source.storage_options.*storage: NAME") as told:
                task.execute(context())
            assert MARK not in str(told.value)
    assert not asked


def test_names_reach_the_site_and_nothing_else():
    with site({**RUNNING, "what": "submitted"}) as asked:
        deferral(operator(overrides=["data.source.storage=mine"]), context())
    ((arguments, stdin),) = asked
    assert "storage: mine" in stdin and not any("mine" in one for one in arguments)


def test_a_form_with_what_may_be_one_makes_no_run_and_leaves_nothing_in_the_database(folder):
    from airflow.sdk.exceptions import ParamValidationError

    from graphufs.errors import UserError
    from jobs.airflow.forms import validate

    for override in FORMS:
        with pytest.raises((ParamValidationError, ValueError)):
            run("normalization", experiment="tiny", site="here", overrides=[override])
        with pytest.raises(UserError) as told:  # and where it came in another way
            validate.experiment("tiny", [override, "x"])
        assert MARK not in str(told.value)
    for change in ("data.source.storage=mine", "normalization.storage=mine", "evaluation.era5.storage=mine"):
        with pytest.raises(UserError, match="names a place that the site's account would go to"):
            validate.experiment("tiny", [change])
    kept = [path for path in folder.glob("airflow.db*") if MARK.encode() in path.read_bytes()]
    assert (folder / "airflow.db").exists() and not kept
