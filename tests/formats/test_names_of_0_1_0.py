"""Outputs and jobs keep the names they had in version 0.1.0: else all that lies below a root would be made anew.

`tests/golden/formats/hashes.json` and `schema.json` were written by the code of 0.1.0 and are never written again. Who
adds a key to experiments adds another value of it to `names.OTHER`, and says in `tests/config/test_identity.py` which
hashes take no notice of it. `training.validate_every` and the place of a warm start's root were part of a run's hash;
what was made then keeps its name, so these tests look into roots where 0.1.0 has made it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from graphufs.config import loading, moved_keys
from graphufs.config.request import Request as Asked
from jobs import site
from jobs.job.folder import JobFolder
from jobs.submission import submit
from tests.golden.formats import names

GOLDEN = Path(names.__file__).parent
HASHES = json.loads((GOLDEN / "hashes.json").read_text())
WORDS = ("title", "description")
ASKED = {
    "nightly.model": ("decide-tiny-5dec7f11e936", "2f606134632f"),
    "nightly.night": ("decide-tiny-59152c49f064", "ddd7b39c9490"),
    "retraining.champion": ("decide-tiny-deffe0088592", "7a32a1ef14ac"),
    "retraining.answer": ("decide-tiny-658d9533adf8", "daea2994827c"),
    "retraining.decided_by": ("decide-tiny-8a6faac6be34", "ece1edc465e2"),
    "retraining.why": ("decide-tiny-fbe062bd5007", "0425c72cf886"),
    "retraining.rollback_to": ("decide-tiny-6bd00bb53fa4", "91a535d907b7"),
    "retraining.cost": ("decide-tiny-7559c80f5f2a", "9f3a4bae5e96"),
}
"""What the keys of `names.MOVED` made of the key and digest of tiny's `decide`, told by code that still had them."""
ADDED = {
    "data": ("region", "accept_implausible", "interfaces", "storage"),
    "data.source": ("kind", "storage"),
    "data.source.world": ("step", "stochastic"),
    "forecast": ("members", "keep_members", "checkpoints", "products", "products_grid"),
    "model": ("kernels", "mesh2grid_ties", "noise"),
    "training": (
        "augmentation",
        "init_partial",
        "init_statistics",
        "init_new",
        "init_optimizer",
        "freeze",
        "learning_rate_factors",
    ),
    "training.compute": ("members_in_turn", "mesh", "shard_optimizer"),
    "training.loss": ("diagnostics",),
    "training.stages": ("loss",),
    "normalization": ("storage",),
    "evaluation": ("plume_points",),
    "evaluation.era5": ("storage",),
}
"""Keys that came later, by section; what they are by default changes nothing."""
ADDED_TO_SITES = ("at_once", "shared_with_group", "control.first_wait")
SCHEMAS = json.loads((GOLDEN / "schema.json").read_text())


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    others = names.OTHER | names.MOVED
    return names.changes(names.made_by_0_1_0, tmp_path_factory.mktemp("made-by-0.1.0"), others)


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
    assert sorted(moved_keys.FORMER.values()) == sorted(names.MOVED)


@pytest.mark.parametrize("name", names.SHIPPED)
def test_every_job_has_the_key_and_the_digest_it_had(name, tmp_path):
    assert names.jobs(names.shipped(name), tmp_path) == HASHES["jobs"][name]


@pytest.mark.parametrize("key", names.MOVED)
def test_a_job_that_was_asked_for_by_a_key_has_the_key_and_the_digest_it_had(key, tmp_path):
    tiny, asked = loading.load_run(names.EXPERIMENTS / "tiny.yaml", names.MOVED[key])
    request = submit.Request("decide", tiny, "local", site.load("local"), tmp_path, asked=asked)
    found = submit._intended(request.job(), request).intent
    assert (found.key, found.digest) == ASKED[key]
    assert found.request == asked.given and JobFolder(tmp_path, found.key).request() == asked
    nothing = replace(request, asked=Asked())
    assert nothing.job().key == HASHES["jobs"]["tiny"]["decide"]["local"]
    intent = submit._intended(nothing.job(), nothing).intent
    assert intent.digest == HASHES["jobs"]["tiny"]["decide"]["digest"]
    assert "request" not in json.loads((nothing.job().path / "intent.json").read_text())


def test_the_jobs_of_airflows_tasks_have_the_keys_they_had():
    assert names.tasks() == HASHES["tasks"]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_experiments_resources_and_sites_allow_what_they_allowed(name):
    now = with_moved_keys(names.schemas())
    for section, added in ADDED.items():
        for key in added:
            take_out(now["experiment"], section.split("."), key)
    now["experiment"]["properties"]["retraining"]["properties"]["metric"]["enum"].remove("crps")
    now["experiment"]["properties"]["training"]["properties"]["stages"]["minItems"] = 1  # with none it was refused
    # a training with a negative weight learnt to be as wrong as it could, or was refused when it began
    weights = now["experiment"]["properties"]["training"]["properties"]["loss"]["properties"]["variable_weights"]
    assert weights["additionalProperties"].pop("minimum") == 0
    for key in ADDED_TO_SITES:
        *sections, key = key.split(".")
        take_out(now["site"], sections, key)
    assert without_added_limits(now[name], SCHEMAS[name]) == SCHEMAS[name]


def take_out(schema, sections, key):
    """Take a key out of the schema of nested sections, and out of the defaults of all these."""
    default = schema.get("default")
    for name in sections:
        default = (default or {}).get(name)
    (default or {}).pop(key, None)
    if sections:
        place = schema["properties"][sections[0]]
        return take_out(place.get("items", place), sections[1:], key)
    return schema["properties"].pop(key)


def without_added_limits(now, then):
    """A schema without the upper limits, added since, that refuse the absurd."""
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [without_added_limits(one, former) for one, former in zip(now, then, strict=True)]
    if not isinstance(now, dict) or not isinstance(then, dict):
        return now
    added = {rule for rule in ("maximum", "maxItems", "le") if rule in now and rule not in then}
    return {key: without_added_limits(value, then.get(key)) for key, value in now.items() if key not in added}


def with_moved_keys(schemas):
    """The schemas with what a request allows at the places where its fields were."""
    request = Asked.model_json_schema()["properties"]
    for name, former in moved_keys.FORMER.items():
        section, _, key = former.partition(".")
        place = schemas["experiment"]["properties"][section]
        assert key not in place["properties"]
        place["properties"][key] = {word: rule for word, rule in request[name].items() if word not in WORDS}
        place["default"][key] = request[name]["default"]
    return schemas
