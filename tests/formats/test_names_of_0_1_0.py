"""Outputs and jobs keep the names they had in version 0.1.0: else all that lies below a root would be made anew.

`tests/golden/formats/hashes.json` and `schema.json` were written by the code of 0.1.0 and are never written again. Who
adds a key to experiments adds another value of it to `names.OTHER`, and says in `tests/config/test_identity.py` which
hashes take no notice of it. `training.validate_every` and the place of a warm start's root were part of a run's hash;
what was made then keeps its name, so these tests look into roots where 0.1.0 has made it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.formats import names

GOLDEN = Path(names.__file__).parent
HASHES = json.loads((GOLDEN / "hashes.json").read_text())
SCHEMAS = json.loads((GOLDEN / "schema.json").read_text())


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    return names.changes(names.made_by_0_1_0, tmp_path_factory.mktemp("made-by-0.1.0"))


@pytest.mark.parametrize("name", names.SHIPPED)
def test_every_output_of_a_shipped_experiment_lies_where_it_lay(name, tmp_path):
    assert names.outputs(names.made_by_0_1_0(names.shipped(name), tmp_path)) == HASHES["outputs"][name]


def test_scores_against_two_truths_lie_where_they_lay(tmp_path):
    both = names.shipped("tiny", *names.BOTH_TRUTHS)
    assert names.outputs(names.made_by_0_1_0(both, tmp_path)) == HASHES["outputs"]["both truths"]


def test_each_key_changes_the_hashes_it_changed_and_to_what_it_changed_them(changes):
    assert {key: changes.get(key) for key in HASHES["changes"]} == HASHES["changes"]


def test_another_value_is_known_of_every_key():
    assert names.keys() == sorted(names.OTHER)


@pytest.mark.parametrize("name", names.SHIPPED)
def test_every_job_has_the_key_and_the_digest_it_had(name, tmp_path):
    assert names.jobs(names.shipped(name), tmp_path) == HASHES["jobs"][name]


def test_the_jobs_of_airflows_tasks_have_the_keys_they_had():
    assert names.tasks() == HASHES["tasks"]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_experiments_resources_and_sites_allow_what_they_allowed(name):
    assert names.schemas()[name] == SCHEMAS[name]
