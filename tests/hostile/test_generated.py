"""Bad input made at random: exit 0 or 2, one error line, two seconds at most, and nothing written.

Commands run in this process, hundreds of them a second, each as its `main` is called.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from datetime import date

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphufs.cli.main import main as graphufs
from graphufs.errors import UserError
from jobs.airflow.forms import nightly, validate
from jobs.cli.main import main as graphufs_jobs
from jobs.site import load
from tests.conftest import TINY
from tests.golden.formats.names import keys
from tests.hostile.running import SECONDS, Ended, require_told, tree
from tests.jobs import job_of
from tests.support import lookalike

QUICK, THOROUGH = 10, 150
TREE = yaml.safe_load(TINY.read_text())
TEXT = TINY.read_text()


amounts = pytest.mark.parametrize(
    "amount", [QUICK, pytest.param(THOROUGH, marks=[pytest.mark.hostile, pytest.mark.timeout(3000)])]
)


def holds(amount: int, *strategies: st.SearchStrategy):
    """A decorator that tries a property with so many examples at once, the same ones each time."""

    def try_it(property_: Callable[..., None]) -> None:
        bounds = settings(
            max_examples=amount, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        bounds(given(*strategies)(property_))()

    return try_it


def called(main, *arguments: str, stdin: bytes = b"") -> Ended:
    """How a command ended that was called in this process."""
    out, err, before, began = io.StringIO(), io.StringIO(), sys.stdin, time.process_time()
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main(list(arguments))
    finally:
        sys.stdin = before
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue(), time.process_time() - began, 0.0)


def require_answered(ended: Ended) -> None:
    """See that input was taken or refused, as everything must be."""
    assert ended.code in (0, 2), (ended.code, ended.err)
    require_told(ended)
    assert ended.seconds < SECONDS


odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.sampled_from([0, -1, 2**31, 10**30]),
    st.floats(), st.text(max_size=20), st.sampled_from(["", "[/b]", "\x1b[2J", "\udcff", "a\nb", "²", "..", "null"]),
    st.integers(-5, 10**12).map(lambda hours: f"{hours}h"), st.dates().map(str), st.datetimes().map(str),
    st.builds("{:04d}-{:02d}-{:02d}T{:02d}".format, *[st.integers(0, n) for n in (9999, 13, 32, 25)]),
)  # fmt: skip
nested = st.recursive(
    odd,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
somewhere = st.sampled_from(sorted({".".join(key.split(".")[:n]) for key in keys() for n in range(1, 6)}))


letters = st.text("[]{}&*!|>%@`-:?#,\"'\n\t 0a\0\x85é~<=", max_size=6)
cuts = st.tuples(st.integers(0, len(TEXT)), st.integers(0, 30), letters)


def put(content: dict, key: str, value: object) -> None:
    """Put a value at a key, with what is lacking above it."""
    place, path = content, key.split(".")
    for part, following in zip(path, [*path[1:], None], strict=True):
        if isinstance(place, list):
            part = min(int(part) if part.isdecimal() else 0, len(place) - 1)
        if following is None:
            place[part] = value
        elif not isinstance(place, list) and not isinstance(place.get(part), dict | list):
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict | list) or place == []:
            return


@amounts
def test_any_value_at_any_key_of_an_experiment_is_taken_or_refused(tmp_path, amount):
    @holds(amount, st.lists(st.tuples(somewhere, nested), min_size=1, max_size=3))
    def _(changes):
        content = copy.deepcopy(TREE)
        for key, value in changes:
            put(content, key, value)
        (tmp_path / "e.yaml").write_text(json.dumps(content))
        before = tree(tmp_path)
        require_answered(called(graphufs, "show", str(tmp_path / "e.yaml"), "--root", str(tmp_path / "r")))
        assert tree(tmp_path) == before


@amounts
def test_any_text_is_an_experiment_or_is_refused(tmp_path, amount):
    @holds(amount, st.lists(cuts, min_size=1, max_size=4))
    def _(edits):
        text = TEXT
        for at, length, instead in edits:
            text = text[:at] + instead + text[at + length :]
        (tmp_path / "e.yaml").write_text(text, "utf-8")
        require_answered(called(graphufs, "show", str(tmp_path / "e.yaml"), "--root", str(tmp_path / "r")))
        assert [path.name for path in tmp_path.iterdir()] == ["e.yaml"]


@amounts
def test_any_bytes_are_an_experiment_or_are_refused(tmp_path, amount):
    @holds(amount, st.binary(max_size=200))
    def _(content):
        (tmp_path / "e.yaml").write_bytes(content)
        require_answered(called(graphufs, "show", str(tmp_path / "e.yaml"), "--root", str(tmp_path / "r")))
        require_answered(called(graphufs_jobs, "sites", str(tmp_path / "e.yaml")))


@amounts
def test_any_override_is_taken_or_refused(tmp_path, amount):
    @holds(
        amount, somewhere | st.text(max_size=20), st.booleans(), nested, st.text("[]{}&*!|>%:?#,'\" a1", max_size=12)
    )
    def _(key, as_json, value, text):
        override = f"{key}={json.dumps(value) if as_json else text}"
        if not override.startswith("-"):
            arguments = ("show", str(TINY), "--root", str(tmp_path / "r"), f"--set={override}")
            require_answered(called(graphufs, *arguments))
            require_form_answers([override])
        assert not list(tmp_path.iterdir())


def require_form_answers(overrides: object) -> None:
    """See that a form's overrides and an event's are taken, or refused with an error that Airflow shows as it is."""
    began = time.process_time()
    with contextlib.suppress(UserError):
        validate.asked("tiny", "local", {"forecast.every": None}, {"night": "2026-01-01"}, overrides)
    assert time.process_time() - began < SECONDS


@amounts
def test_any_event_is_a_night_or_is_refused(amount):
    @holds(amount, st.lists(nested, max_size=3), nested, nested)
    def _(overrides, model, night):
        told = {"experiment": "tiny", "site": "local", "model": model, "overrides": overrides}
        began = time.process_time()
        with contextlib.suppress(UserError):
            form = {"at_most": None, "night": night, "deadline_hours": 1}
            nightly.asked(form, told, date(2026, 1, 1))
        assert time.process_time() - began < SECONDS


cursors = st.dictionaries(st.sampled_from(["1/7_0_log.out", "1/x", "x"]) | st.text(max_size=5), odd, max_size=3)
questions = st.one_of(
    st.dictionaries(st.sampled_from(["job", "none"]) | st.text(max_size=5), cursors | nested, max_size=3).map(
        lambda jobs: {"jobs": jobs}
    ),
    nested,
    st.builds(lambda value: {"jobs": value}, nested),
)


@amounts
def test_any_question_to_poll_is_answered_or_refused(tmp_path, amount):
    @holds(amount, questions.map(lambda asked: json.dumps(asked).encode()) | st.binary(max_size=60))
    def _(question):
        if not (tmp_path / "jobs").exists():
            job = job_of(tmp_path, site=load("local"), result=True)
            job.submitit(1).mkdir(parents=True)
            (job.submitit(1) / "7_0_log.out").write_bytes(b"a line\n")
        before = tree(tmp_path)
        ended = called(graphufs_jobs, "poll", "--root", str(tmp_path), stdin=question)
        require_answered(ended)
        assert ended.code or json.loads(ended.out)["protocol"] == 1
        assert tree(tmp_path) == before


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A small source that `check` accepts, and the rest of the command."""
    path = tmp_path_factory.mktemp("source") / "s.zarr"
    lookalike.build_atmosphere(path, count=160, latitudes=4, longitudes=8, variables=["pressfc", "tmp", "land_static"])
    changes = ("data.forcings=[]", "data.inputs=[pressfc, tmp, land_static]", f"data.source.url={path}")
    return path, ("check", str(TINY), *(f"--set={change}" for change in changes))


broken = st.one_of(
    nested, st.sampled_from(["|u1", "<f8", "<M8[ns]", "O", "hours since yesterday", "julian", [10**9], [-1], [0]])
)


@amounts
def test_any_metadata_are_a_source_or_are_refused(tmp_path, store, amount):
    @holds(amount, st.data())
    def _(data):
        path, line = store
        content = json.loads((path / ".zmetadata").read_text())
        members = content["metadata"]
        for _ in range(data.draw(st.integers(1, 3))):
            member = members[data.draw(st.sampled_from(sorted(members)))]
            if isinstance(member, dict) and member:
                member[data.draw(st.sampled_from(sorted(member)))] = data.draw(broken)
        kept = (path / ".zmetadata").read_bytes()
        (path / ".zmetadata").write_text(json.dumps(content))
        before = tree(path)
        try:
            require_answered(called(graphufs, *line, "--root", str(tmp_path / "r")))
        finally:
            (path / ".zmetadata").write_bytes(kept)
        assert not list(tmp_path.iterdir()) and tree(path).keys() == before.keys()


def test_the_source_of_that_test_is_accepted(store, tmp_path):
    ended = called(graphufs, *store[1], "--root", str(tmp_path / "r"))
    assert ended.code == 0, ended.err


@pytest.mark.hostile
@pytest.mark.parametrize("length", [10**9, 10**13])
@pytest.mark.parametrize("key", ["shape", "chunks"])
def test_a_coordinate_that_claims_to_fill_the_memory_is_refused(tmp_path, store, key, length):
    path = shutil.copytree(store[0], tmp_path / "s.zarr")
    content = json.loads((path / ".zmetadata").read_text())
    for name, array in content["metadata"].items():
        if name == "time/.zarray" or (key == "shape" and array.get("shape", [0])[:1] == [160]):
            array[key][0] = length
    (path / ".zmetadata").write_text(json.dumps(content))
    ended = called(graphufs, *store[1], f"--set=data.source.url={path}", "--root", str(tmp_path / "r"))
    assert ended.code == 2 and f"{length:,}" in ended.err and ended.seconds < SECONDS
