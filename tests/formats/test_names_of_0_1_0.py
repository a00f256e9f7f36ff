"""Outputs and jobs keep the names they had in version 0.1.0: else all that lies below a root would be made anew.

`tests/golden/formats/hashes.json` and `schema.json` were written by the code of 0.1.0 and are never written again. Who
adds a key to experiments adds another value of it to `names.OTHER`, and says here if no hash takes notice of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.formats import names

GOLDEN = Path(names.__file__).parent
HASHES = json.loads((GOLDEN / "hashes.json").read_text())
SCHEMAS = json.loads((GOLDEN / "schema.json").read_text())
LEFT_OUT = {
    "words; a name is that of a folder, though, and of models": ("name", "description"),
    "how to reach what is read": ("data.source.storage_options", "normalization.storage_options"),
    "permission to go on": ("data.allow_overlap",),
    "how something is computed, which changes results by rounding at most": (
        "evaluation.dask",
        "normalization.dask",
        "training.compute.deterministic",
        "training.compute.device_batch_size",
        "training.compute.devices",
        "training.compute.rematerialize",
    ),
    "what is kept and told of a training": (
        "training.checkpoint_every",
        "training.checkpoint_minutes",
        "training.keep_checkpoints",
        "training.tracking.experiment",
        "training.tracking.mlflow",
    ),
    "what a night or a round does; it is written into the experiments that these plan": (
        "nightly.at_most",
        "nightly.days_per_night",
        "nightly.model",
        "nightly.night",
        "nightly.until",
        "retraining.answer",
        "retraining.champion",
        "retraining.comparison_times",
        "retraining.cost",
        "retraining.decided_by",
        "retraining.level",
        "retraining.metric",
        "retraining.new_days",
        "retraining.rollback_to",
        "retraining.scores.0.lead",
        "retraining.scores.0.level",
        "retraining.scores.0.variable",
        "retraining.stability.margin",
        "retraining.stability.spectrum",
        "retraining.then",
        "retraining.training_days",
        "retraining.validation_days",
        "retraining.warm_start",
        "retraining.why",
        "retraining.worse_by_at_most",
    ),
}
"""Keys that are part of no hash, by why."""


@pytest.fixture(scope="module")
def changes():
    return names.changes()


@pytest.mark.parametrize("name", names.SHIPPED)
def test_every_output_of_a_shipped_experiment_lies_where_it_lay(name):
    assert names.outputs(names.shipped(name)) == HASHES["outputs"][name]


def test_scores_against_two_truths_lie_where_they_lay():
    assert names.outputs(names.shipped("tiny", *names.BOTH_TRUTHS)) == HASHES["outputs"]["both truths"]


def test_each_key_changes_the_hashes_it_changed_and_to_what_it_changed_them(changes):
    assert {key: changes.get(key) for key in HASHES["changes"]} == HASHES["changes"]


def test_another_value_is_known_of_every_key():
    assert names.keys() == sorted(names.OTHER)


def test_these_keys_are_left_out_of_all_hashes_and_no_others(changes):
    silent = sorted(key for key, changed in changes.items() if not changed)
    assert silent == sorted(key for keys in LEFT_OUT.values() for key in keys)


@pytest.mark.parametrize("name", names.SHIPPED)
def test_every_job_has_the_key_and_the_digest_it_had(name, tmp_path):
    assert names.jobs(names.shipped(name), tmp_path) == HASHES["jobs"][name]


def test_the_jobs_of_airflows_tasks_have_the_keys_they_had():
    assert names.tasks() == HASHES["tasks"]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_experiments_resources_and_sites_allow_what_they_allowed(name):
    assert names.schemas()[name] == SCHEMAS[name]
