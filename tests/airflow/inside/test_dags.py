"""The DAGs: their forms, what they refuse, and normalization and training with real jobs of the local site."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.airflow.inside import HOSTILE, ROOT, bag, events, run, states_of, xcoms


def test_dags_are_read_without_errors_and_have_owner_tags_and_docs():
    found = bag()
    assert not found.import_errors, found.import_errors
    for path in (ROOT / "dags").glob("*.py"):
        assert path.stem in found.dags
    for dag in found.dags.values():
        assert dag.tags and dag.doc_md and dag.owner == "graphufs" and not dag.catchup
        assert all(task.owner == "graphufs" for task in dag.tasks)
    json.dumps(bag_serialized(found))


def bag_serialized(found):
    from airflow.serialization.serialized_objects import DagSerialization

    return [DagSerialization.to_dict(dag) for dag in found.dags.values()]


def outline(dag):
    """What users' databases and their scripts name: tasks and their order, fields and their limits, clocks, assets."""
    from airflow.serialization.serialized_objects import DagSerialization

    fields = []
    for name in dag.params:
        param = dag.params.get_param(name)
        chosen = {"enum"} if name in ("experiment", "site") else {"examples"}  # of what there is, tested below
        rules = {word: value for word, value in param.schema.items() if word not in chosen}
        fields.append({"name": name, "default": param.value, **rules})
    tasks = {
        task.task_id: [task.task_type, task.trigger_rule.value, *sorted(task.downstream_task_ids)] for task in dag.tasks
    }
    told = {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets}
    whole = DagSerialization.to_dict(dag)["dag"]
    return {"schedule": whole["timetable"], "max_active_runs": dag.max_active_runs, "tags": sorted(dag.tags),
            "fields": fields, "tasks": tasks, "outlets": told}  # fmt: skip


def test_dags_tasks_fields_and_schedules_are_those_that_users_databases_name():
    from jobs.airflow.forms import choices

    found = {name: outline(dag) for name, dag in sorted(bag().dags.items())}
    kept = yaml.safe_load(Path(__file__).with_name("dags.yaml").read_text())
    kept["catalogue"]["tasks"] = {f"mirror_{site}": ["MirrorOperator", "all_success"] for site in choices.sites()}
    assert found == kept


def test_dag_files_are_read_fast_and_need_no_arrays(reading):
    assert not reading.heavy
    airflow = reading.seconds.pop("airflow")  # what importing it costs any DAG file, on this machine
    assert set(reading.seconds) == {path.stem for path in (ROOT / "dags").glob("*.py")}
    assert max(reading.seconds.values()) < airflow, (airflow, reading.seconds)


def test_the_form_offers_what_there_is():
    params = bag().dags["normalization"].params
    assert params.get_param("experiment").schema["enum"] == [
        "demo", "demo_ensemble", "demo_hourly", "era5_season", "graphcast_curriculum", "graphcast_operational",
        "graphcast_small", "graphcast_small_replay", "p0", "p0_ensemble", "p0_full", "p1", "p2",
        "quarter_degree", "tiny",
    ]  # fmt: skip
    assert params.get_param("site").schema["enum"] == ["here", "quick", "local", "testcluster"]


def test_the_training_form_has_types_limits_and_help_of_the_schemas():
    from graphufs.config.experiment import Experiment

    params = bag().dags["training"].params
    batch, precision, gpus = (params.get_param(name) for name in ("batch_size", "precision", "gpus"))
    own = Experiment.model_json_schema()["$defs"]["Training"]["properties"]["batch_size"]
    assert batch.schema["type"] == ["integer", "null"] and batch.schema["minimum"] == own["minimum"] == 1
    assert batch.description.startswith(own["description"]) and "tiny: 2" in batch.description
    assert precision.schema["enum"] == ["float32", "bfloat16", None] and gpus.schema["minimum"] == 0
    assert all(
        params.get_param(name).value is None for name in ("mesh_size", "updates", "learning_rate", "seed", "nodes")
    )
    assert all(params.get_param(name).description for name in params)


def test_a_form_changes_what_is_learnt_but_no_place_the_site_would_go_to():
    from graphufs.errors import UserError
    from jobs.airflow.forms import validate

    assert validate.experiment("tiny", ["data.source.world.seed=3"]).data.source.world.seed == 3
    for override in (
        "data.source.url=file:///etc",
        "data.source={url: 'simplecache::https://elsewhere/x'}",
        "data.source.storage_options={simplecache: {cache_storage: /home/someone}}",
        "normalization.dask=tcp://elsewhere:8786",
        "normalization={url: /home/someone}",
        "training.init_from=/etc/shadow",
    ):
        with pytest.raises(UserError, match="names a place that the site's account would go to"):
            validate.experiment("tiny", [override])
    for override, words in (
        ("name=../../etc", "name"),
        ("description=!!python/object/apply:os.system [id]", "not YAML"),
        ("description=[&a [x, x], &b [*a, *a], *b]", "references"),
        ("a=b\nc=d", "one a line"),
        ("--site=x", "section.key=value"),
        ("x" * 2000, "1000 characters"),
        ("training.batch_sise=2", "did you mean training.batch_size"),
    ):
        with pytest.raises(UserError, match=words):
            validate.experiment("tiny", [override])
    with pytest.raises(UserError, match="there is no experiment"):
        validate.experiment("../experiments/tiny")
    with pytest.raises(UserError, match="101 overrides"):
        validate.experiment("tiny", ["training.seed=1"] * 101)
    with pytest.raises(UserError, match="training.seed is given both"):
        validate.merged({"training.seed": 1}, ["training.seed=2"])
    for site in ("debug", "unfinished", "--root=/", "../sites/here.yaml", "/etc/passwd"):
        with pytest.raises(UserError, match="no site"):
            validate.site(site)
    for wrong in ({"time_limit": "1h; id"}, {"memory": "lots"}, {"gpus": -1}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            validate.resources("here", "train", wrong)


def test_forecasts_of_a_short_validation_period_are_shortened_and_that_is_said():
    from jobs.airflow.forms import validate

    whole, note = validate.on_validation(validate.experiment("tiny"))
    assert whole.forecast.lead_time == 24 and "shortened" not in note
    assert str(whole.forecast.period) == str(whole.data.validation)
    period = "data.validation={start: 1994-01-11T00, end: 1994-01-12T00}"
    short, note = validate.on_validation(validate.experiment("tiny", [period]))
    assert short.forecast.lead_time == 18 and "shortened from 24h to 18h" in note and len(short.initial_times) == 1
    none = ["data.validation={start: 1994-01-11T00, end: 1994-01-11T06}", "data.input_frames=1"]
    longest, note = validate.on_validation(validate.experiment("tiny", none))
    assert longest.forecast.lead_time == 6


def test_wrong_overrides_fail_the_first_task_and_name_the_field():
    from airflow.sdk.exceptions import ParamValidationError

    def jobs():
        return sorted(Path(os.environ["GRAPHUFS_ROOT"]).glob("jobs/*"))

    before = jobs()
    with pytest.raises((ParamValidationError, ValueError)):
        run("normalization", experiment="tiny", site="here", overrides=["$(touch PWNED)"])
    with pytest.raises((ParamValidationError, ValueError)):
        run("normalization", experiment="../../etc/passwd", site="here")
    for wrong in (
        {"batch_size": 0},
        {"batch_size": "8; id"},
        {"seed": 1.5},
        {"precision": "float16"},
        {"time_limit": "1" * 300},
        {"deadline_hours": 0},
        {"site": "debug"},
        {"overrides": ["training.seed=1\ndata: x"]},
    ):
        with pytest.raises((ParamValidationError, ValueError)):
            run("training", **{"experiment": "tiny", "site": "here", **wrong})
    done = run("normalization", experiment="tiny", site="here", overrides=["training.batch_sise=2"])
    states = {ti.task_id: ti.state for ti in done.get_task_instances()}
    assert states["check"] == "failed" and states["prepare"] == states["normalize"] == "upstream_failed", states
    assert jobs() == before


def test_normalization_runs_on_tiny_and_tells_of_its_statistics(normalized):
    root = Path(os.environ["GRAPHUFS_ROOT"])
    assert set(states_of(normalized).values()) == {"success"}, states_of(normalized)
    assert len(list((root / "statistics").iterdir())) == 1
    results = [json.loads(path.read_text()) for path in sorted((root / "jobs").glob("af-normalization.*/result.json"))]
    assert len(results) == 2 and all(one["attempt"] == 1 for one in results), results
    (told,) = events("graphufs_statistics")
    assert told["site"] == "here" and told["job"] and not Path("PWNED").exists()


def test_training_goes_from_the_form_to_a_candidate_and_shares_what_is_there(trained):
    root = Path(os.environ["GRAPHUFS_ROOT"])
    states = states_of(trained)
    assert states.pop("publish") == "skipped" and set(states.values()) == {"success"}, states
    assert len(list((root / "statistics").iterdir())) == len(list((root / "data").iterdir())) == 1
    assert xcoms(trained, "prepare")["status"] == xcoms(trained, "normalize")["status"] == "unchanged"
    assert "validation period 1994-01-11T00..1994-01-12T18: 2 from 1994-01-11T06 on" in xcoms(trained, "check")["note"]
    (event,) = events("graphufs_checkpoint")
    assert event["experiment"] == event["name"] == "tiny" and event["site"] == "here" and event["scores"]["rmse"]
    assert event["overrides"] == ["model.latent_size=4", HOSTILE] and Path(event["report"]).exists()
    assert event["model"].startswith("tiny-") and event["model"].endswith("-16")
    assert event["model"].split("-")[1] in {path.name for path in (root / "runs" / "tiny").iterdir()}
    (job,) = (root / "jobs").glob("af-training.register.*")
    asked = (job / "experiment.yaml").read_text()
    assert "{{ var.value.secret }} {{ conn.secret.password }} {% raw %}" in " ".join(asked.split()), "as it was typed"
    assert "latent_size: 4" in asked and not Path("PWNED").exists()
    (attempt,) = (root / "jobs").glob("af-training.train.*/attempts/1/attempt.json")
    assert json.loads(attempt.read_text())["resources"]["time_limit"] == "1:00:00"
