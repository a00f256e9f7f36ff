"""Credentials by name: from a file of the account's own, or from fsspec's configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec.config
import numpy as np
import pytest

from graphufs.config.data import Source
from graphufs.errors import UserError
from graphufs.storage import credentials
from graphufs.storage.credentials import named, options_of
from graphufs.storage.zarr_io import open_zarr
from tests.support.lookalike import build_atmosphere
from tests.support.object_server import ObjectServer

MARK = "MARKER9c21"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of credentials, of mode 0600."""
    path = tmp_path / "credentials.yaml"
    path.write_text(f"mine: {{key: {MARK}, secret: {MARK}too, anon: false}}\nbroken: {MARK}\n")
    path.chmod(0o600)
    monkeypatch.setenv(credentials.VARIABLE, str(path))
    return path


def test_a_name_stands_for_the_options_in_the_file_and_those_given_beside_go_first(file: Path) -> None:
    source = Source(url="s3://bucket/x", storage="mine", storage_options={"anon": True, "key": "own-key"})
    assert options_of(source) == {"key": "own-key", "secret": f"{MARK}too", "anon": True}
    assert options_of(Source(storage_options={"token": "anon"})) == {"token": "anon"}
    assert MARK not in repr(source) + source.model_dump_json()


def test_the_file_lies_in_the_accounts_configuration_where_no_other_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(credentials.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert credentials.file() == tmp_path / "graphufs" / "credentials.yaml"
    with pytest.raises(UserError, match=r"names the credentials 'mine', but .* is not there.*600"):
        named("mine")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_file_that_others_may_use_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(UserError, match=f"can be read or changed by others.*chmod 600 {file}"):
        named("mine")


def test_a_file_of_somebody_else_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(UserError, match=f"belongs to user {other - 1}, not to the one who reads it"):
        named("mine")


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        (f"mine: {{key: {MARK}}}", "other", "there are no credentials 'other' in .*; it has mine"),
        (f"mine: {MARK}", "mine", "what mine stands for is no mapping"),
        (f"- {MARK}", "mine", "holds no mapping of names"),
        (f"mine: {{key: {MARK}", "mine", "cannot be read as YAML: line"),
        (f"{MARK}: 1\n{MARK}: 2", "mine", "cannot be read as YAML: line 2"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_told_of_without_its_content(
    file: Path, text: str, name: str, told: str
) -> None:
    file.write_text(text)
    with pytest.raises(UserError, match=told) as error:
        named(name)
    assert MARK not in str(error.value)


def test_a_store_is_read_with_what_a_name_and_an_address_give_and_a_wrong_one_is_not_repeated(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    from graphufs.masking import address

    build_atmosphere(tmp_path / "served" / "fv3.zarr", count=3, variables=("pressfc",))
    with ObjectServer(tmp_path / "served").running() as server:
        user = base64.b64encode(f"me:{MARK}pw".encode()).decode()
        server.admits = lambda path, authorization: f"Credential={MARK}/" in authorization or user in authorization
        http = address(server.address("http", "fv3.zarr")[0].replace("://", f"://me:{MARK}pw@"))
        url, options = server.address("s3", "fv3.zarr")
        s3 = Source(url=url, storage="mine", storage_options={"endpoint_url": options["endpoint_url"]})
        for place, given in ((http, {}), (s3.url, options_of(s3))):
            assert np.isfinite(open_zarr(place, storage_options=given)["pressfc"].values).all()
        # the same by fsspec's own configuration, which needs no name
        monkeypatch.setitem(fsspec.config.conf, "s3", {"key": MARK, "secret": "x"})
        open_zarr(s3.url, storage_options={"endpoint_url": options["endpoint_url"]})
        monkeypatch.setitem(fsspec.config.conf, "s3", {})
        wrong = address(str(server.address("http", "fv3.zarr")[0]).replace("://", f"://me:{MARK}wrong@"))
        patience: dict[str, Any] = {"connect_timeout": 0.5, "retry_for": 0.5}
        hopeless: tuple[tuple[str, dict[str, Any]], ...] = (
            (wrong, patience),
            (f"{s3.url}", {**options, "anon": False, "key": f"{MARK}other", "secret": "x", **patience}),
            (address(f"http://me:{MARK}host@127.0.0.1:1/x?sig={MARK}sig"), patience),
        )
        for place, given in hopeless:
            with pytest.raises(UserError) as told:
                open_zarr(place, storage_options=given)
            assert f"{MARK}pw" not in str(told.value) and f"{MARK}wrong" not in str(told.value)
            assert f"{MARK}host" not in str(told.value) and f"{MARK}sig" not in str(told.value)
