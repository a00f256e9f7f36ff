"""Credentials in an experiment: what counts as one, and that only who asks for the true values has them."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from graphufs import masking
from graphufs.config import credentials, loading
from graphufs.config.experiment import Experiment
from graphufs.errors import UserError
from graphufs.registry.model_experiment import experiment_of
from graphufs.storage.paths import Paths
from tests.golden.formats import names
from tests.registry.test_registry import model

MARK = "MARKER7f3a"
INLINE = (
    f"data.source.storage_options={{token: anon, key: {MARK}one, client_kwargs: {{headers: {{A: {MARK}two}}}}}}",
    f"normalization.storage_options={{username: [{MARK}three], password: 1234567}}",
    f"evaluation.era5.url=https://me:{MARK}four@host/era5.zarr?token={MARK}five",
    f"evaluation.era5.climatology=https://{MARK}six@host/climatology.zarr",
    f"evaluation.era5.storage_options={{sas_token: {MARK}seven}}",
)


@pytest.fixture
def held() -> Experiment:
    return names.shipped("tiny", *INLINE)


def test_public_options_stay_readable_and_all_other_text_is_masked():
    public = {
        "token": "anon", "anon": True, "read_timeout": 7.5, "endpoint_url": "http://127.0.0.1:1", "retry_for": 3,
        "client_kwargs": {"region_name": "us-east-1", "verify": False}, "project": "p", "requester_pays": None,
    }  # fmt: skip
    assert masking.options(public) == public
    secret = {"token": "ya29", "key": "k", "unheard_of": "u", "client_kwargs": {"headers": {"X": "y"}}, "pin_key": 123}
    shown = json.loads(json.dumps(masking.options(secret)))
    assert set(str(shown).split("'")) & {"ya29", "k", "u", "y", "123"} == set() and shown["token"] == "***"
    assert credentials.true(masking.options(secret)) == secret


@pytest.mark.parametrize(
    ("address", "shown", "place"),
    [
        ("gs://bucket/x.zarr", "gs://bucket/x.zarr", "gs://bucket/x.zarr"),
        ("a folder/of?mine@home", "a folder/of?mine@home", "a folder/of?mine@home"),
        ("abfs://container@account/x", "abfs://container@account/x", "abfs://container@account/x"),
        ("https://me:pw@h/x", "https://***@h/x", "https://h/x"),
        ("https://token@h/x", "https://***@h/x", "https://h/x"),
        ("filecache::https://me:p/w@h/x", None, None),
        ("simplecache::https://me:pw@h/x", "simplecache::https://***@h/x", "simplecache::https://h/x"),
        ("https://h/x?X-Amz-Signature=ab&version=3", "https://h/x?X-Amz-Signature=***&version=3", "https://h/x?version=3"),
        ("https://h/x?sv=1&sig=ab", "https://h/x?sv=***&sig=***", "https://h/x"),
    ],
)  # fmt: skip
def test_addresses_are_shown_and_hashed_without_credentials(address, shown, place):
    if shown is None:  # no address, as it stands: a slash ends what may hold a user
        assert masking.place(address) == address
        return
    found = masking.address(address)
    assert found == shown and masking.place(found) == masking.place(address) == masking.place(shown) == place
    assert credentials.true(found) == address and credentials.true(pickle.loads(pickle.dumps(found))) == address


def test_parameters_that_may_say_what_is_read_keep_their_difference():
    one, two = (masking.place(f"https://h/x?member={member}") for member in ("abcdef", "abcdeg"))
    assert one != two and masking.place(masking.address("https://h/x?member=abcdef")) == one and "abcdef" not in one


def test_nothing_that_is_made_of_an_experiment_has_its_credentials(held):
    made = [loading.dump(held), repr(held), str(held), held.model_dump_json(), json.dumps(held.model_dump(mode="json"))]
    assert not [text for text in made if MARK in text or "1234567" in text]
    assert "token: anon" in made[0]
    assert set(credentials.held(held)) == {one.partition("=")[0] for one in INLINE}
    order = credentials.to_worker(held)
    assert MARK not in f"{order} {order!r}"
    again = Experiment.model_validate_json(credentials.true(pickle.loads(pickle.dumps(order))))
    assert credentials.held(again) == credentials.held(held) and str(credentials.held(again)).count(MARK) == 7


def test_what_was_put_in_past_all_checks_is_masked_too(held):
    source = held.data.source.model_copy(update={"storage_options": {"key": MARK}, "url": f"s3://{MARK}@b/x"})
    secretive = held.model_copy(update={"data": held.data.model_copy(update={"source": source})})
    assert MARK not in loading.dump(secretive)
    assert credentials.held(secretive)["data.source.storage_options"] == {"key": MARK}


def test_credentials_are_part_of_no_hash_and_a_stored_experiment_names_the_same_outputs(held, tmp_path):
    plain = names.shipped("tiny", "evaluation.era5.url=https://host/era5.zarr",
                          "evaluation.era5.climatology=https://host/climatology.zarr")  # fmt: skip
    named = loading.parse(loading.dump(plain), ["evaluation.era5.storage=mine", "data.source.storage=mine"])
    stored = loading.parse(loading.dump(held))
    assert len({json.dumps(Paths(one, tmp_path).hashes) for one in (plain, named, held, stored)}) == 1
    other = loading.parse(loading.dump(plain), ["evaluation.era5.url=https://host/other.zarr"])
    assert Paths(other, tmp_path).hashes != Paths(plain, tmp_path).hashes


def test_a_stored_experiment_asks_for_its_credentials_and_gets_those_of_one_that_reads_the_same(held):
    stored = loading.parse(loading.dump(held))
    assert credentials.held(stored) == {}
    for value in (stored.data.source.storage_options, stored.evaluation.era5.url):
        with pytest.raises(UserError, match=r"stored without its credentials.*storage: NAME"):
            credentials.true(value)
    assert credentials.held(credentials.with_those_of(stored, held)) == credentials.held(held)
    elsewhere = loading.parse(loading.dump(stored), ["evaluation.era5.url=https://elsewhere/era5.zarr"])
    assert "evaluation.era5.url" not in credentials.held(credentials.with_those_of(elsewhere, held))
    assert "evaluation.era5.storage_options" not in credentials.held(credentials.with_those_of(elsewhere, held))


def test_a_registered_model_is_read_with_the_present_experiments_credentials(held):
    registered = replace(model(16, "tiny"), experiment=loading.dump(held))
    found = experiment_of(registered, held)
    assert credentials.held(found) == credentials.held(held)


@pytest.mark.parametrize(
    "override",
    [
        f"data.source.storage_options={MARK}",
        f"data.source.storage_options={{key: {MARK}",
        f"data={{source: [{{storage_options: {{key: {MARK}}}}}]}}",
        f"nowhere.url=https://me:{MARK}@host",
        f"name=https://me:{MARK}@host",
        f"training.seed=https://host?key={MARK}",
        f"data.source.storage=https://me:{MARK}@host",
    ],
)
def test_an_error_about_an_override_does_not_repeat_what_it_gives_away(override):
    with pytest.raises(UserError) as told:
        names.shipped("tiny", override)
    assert MARK not in str(told.value)


def test_what_was_seen_as_a_credential_is_taken_out_of_messages_and_of_tracebacks():
    masking.options({"key": f"{MARK}seen"})
    assert str(UserError(f"the client says: {MARK}seen is unknown")) == "the client says: *** is unknown"
    assert (
        masking.hide(f"at https://me:{MARK}x@host/x?sig={MARK}y, not there")
        == "at https://***@host/x?sig=***, not there"
    )
    try:
        raise OSError(f"no such key {MARK}seen")
    except OSError as error:
        assert MARK not in str(masking.cleaned(error)) and isinstance(masking.cleaned(error), RuntimeError)
    plain = ValueError("no")
    assert masking.cleaned(plain) is plain


def test_where_all_is_stored_credentials_are_asked_to_be_named(held):
    with pytest.raises(UserError, match=r"evaluation.era5.url.*storage: NAME") as told:
        credentials.require_named(held)
    assert MARK not in str(told.value)
    credentials.require_named(names.shipped("tiny", "data.source.storage=mine", "data.source.url=gs://bucket/x"))


def test_experiments_that_are_shipped_hold_no_credentials():
    for path in Path(names.EXPERIMENTS).glob("*.yaml"):
        assert credentials.held(loading.load(path)) == {}
