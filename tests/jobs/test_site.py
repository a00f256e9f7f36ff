"""Site files: read, checked, and the mistakes people make in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphufs.errors import UserError
from graphufs.steps import STEPS
from jobs.site import SHIPPED, Resources, Site, available, load, minutes


def site_of(**content):
    return Site.model_validate({"executor": "slurm", **content})


def written(folder, text, name="own"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_site_is_valid_for_every_step(path):
    loaded = load(path.stem)
    assert loaded.description
    for step in STEPS:
        assert minutes(loaded.resources_of(step).time_limit) * 60 > loaded.lead


def test_the_shipped_sites_are_those_of_the_issue():
    shipped = {path.stem for path in SHIPPED.glob("*.yaml")}
    assert shipped >= {"local", "debug", "testcluster", "perlmutter-like", "hera-like"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 30),
        ("30:00", 30),
        ("0:30", 1),
        ("29:01", 30),
        ("4:00:00", 240),
        ("0:10:00", 10),
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("2-00:00:00", 2 * 1440),
        ("30-00:00:00", 30 * 1440),
    ],
)
def test_time_limits_mean_what_they_mean_to_sbatch(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "0:00", "4h", "-5", "1-", "-1:00", "1:2:3:4", "1-1-1", "a-12", "1:", "UNLIMITED"]
)
def test_what_is_no_time_limit_is_refused(text):
    with pytest.raises(ValueError, match="time"):
        minutes(text)


def test_a_wrong_time_limit_is_named_with_its_place(tmp_path):
    path = written(tmp_path, "executor: slurm\nresources: {train: {time_limit: 4h}}\n")
    with pytest.raises(
        UserError, match=r"(?s)own\.yaml is not a valid site.*resources\.train.*'4h' is not a time limit"
    ):
        load(str(path))


@pytest.mark.parametrize("text", ["64", "64GB", "lots", "1.5G", "64g", ""])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(UserError, match="memory"):
        site_of().resources_of("train", [f"memory={text}"])


@pytest.mark.parametrize("text", ["64G", "900M", "2T"])
def test_memory_is_an_amount_with_a_unit(text):
    assert site_of().resources_of("train", [f"memory={text}"]).memory == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("executer: slurm\nexecutor: slurm\n", "executer: unknown key (did you mean executor"),
        ("executor: slurm\npolicy: {prempted: stop}\n", "policy.prempted: unknown key (did you mean policy.preempted"),
        ("executor: slurm\nresources: {default: {gpu: 1}}\n", "unknown key (did you mean gpus"),
        ("executor: slurm\nresources: {trian: {gpus: 1}}\n", "'trian' is not a step; allowed are default, prepare"),
        ("executor: pbs\n", "executor"),
        ("description: none\n", "executor: is needed but not given"),
        ("executor: slurm\npolicy: {killed: retry}\n", "policy.killed"),
        ("executor: slurm\nexecutor: local\n", "given twice"),
        ("executor: [\n", "YAML"),
        ("", "not a valid site"),
    ],
)
def test_a_wrong_site_file_says_what_is_wrong(tmp_path, text, expected):
    with pytest.raises(UserError) as wrong:
        load(str(written(tmp_path, text)))
    assert expected in str(wrong.value) and "own.yaml" in str(wrong.value)


def test_a_step_takes_the_default_where_it_says_nothing_itself():
    site = site_of(resources={"default": {"cpus": 4, "memory": "16G"}, "train": {"cpus": 8, "gpus": 2}})
    train, prepare = site.resources_of("train"), site.resources_of("prepare")
    assert (train.cpus, train.gpus, train.memory) == (8, 2, "16G")
    assert (prepare.cpus, prepare.gpus, prepare.memory) == (4, 0, "16G")
    assert site_of().resources_of("train") == Resources()


def test_overrides_go_before_the_site():
    site = site_of(resources={"train": {"gpus": 2, "partition": "gpu"}})
    found = site.resources_of("train", ["gpus=4", " partition = big ", "time_limit=1-12"])
    assert (found.gpus, found.partition, found.time_limit) == (4, "big", "1-12")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("gpus", "write it as key=value"),
        ("gpsu=2", "did you mean gpus"),
        ("gpus=many", "gpus"),
        ("nodes=0", "nodes"),
        ("time_limit=0", "time"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override, expected):
    with pytest.raises(UserError, match=expected):
        site_of().resources_of("train", [override])


def test_the_root_is_the_one_given_else_the_sites_else_the_environments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAPHUFS_ROOT", raising=False)
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert site_of().folder() == tmp_path / "graphufs-root"
    monkeypatch.setenv("GRAPHUFS_ROOT", "elsewhere")
    assert site_of().folder() == tmp_path / "elsewhere"
    assert site_of(root="$SCRATCH/graphufs").folder() == Path("/scratch/me/graphufs")
    assert site_of(root="~/graphufs").folder() == Path.home() / "graphufs"
    assert site_of(root="$SCRATCH/graphufs").folder(Path("given")) == tmp_path / "given"


def test_a_root_with_a_variable_that_is_not_set_is_refused(monkeypatch):
    monkeypatch.delenv("NO_SUCH_SCRATCH", raising=False)
    with pytest.raises(UserError, match=r"\$NO_SUCH_SCRATCH/graphufs names an environment variable that is not set"):
        site_of(root="$NO_SUCH_SCRATCH/graphufs").folder()


def test_an_own_site_goes_before_a_shipped_one_of_the_same_name(tmp_path, monkeypatch):
    written(tmp_path / "first", "executor: slurm\ndescription: first\n", "local")
    written(tmp_path / "second", "executor: slurm\ndescription: second\n", "local")
    written(tmp_path / "second", "executor: slurm\ndescription: mine\n", "mine")
    monkeypatch.setenv("GRAPHUFS_SITES", f"{tmp_path / 'first'}:{tmp_path / 'second'}:{tmp_path / 'missing'}")
    assert load("local").description == "first"
    assert load("mine").description == "mine"
    assert load("debug").executor == "debug"
    assert {"mine", "local", "debug"} <= set(available())


def test_a_site_may_be_a_file(tmp_path):
    assert load(str(written(tmp_path, "executor: debug\n"))).executor == "debug"
    with pytest.raises(UserError, match="cannot read .*none.yaml"):
        load(str(tmp_path / "none.yaml"))


def test_an_unknown_site_lists_those_there_are(tmp_path, monkeypatch):
    written(tmp_path, "executor: slurm\n", "mine")
    monkeypatch.setenv("GRAPHUFS_SITES", str(tmp_path))
    with pytest.raises(UserError, match="there is no site 'mars'; there are mine, debug, .*local") as wrong:
        load("mars")
    assert ".yaml" in str(wrong.value)


@pytest.mark.parametrize(
    "override", ["partition=a\ntouch FLAG #", "sbatch.comment=a\rtouch FLAG", "sbatch.wrap\nx=1", "sbatch.--wrap=1"]
)
def test_what_would_begin_a_line_of_its_own_in_a_job_s_script_is_refused(override):
    with pytest.raises(UserError, match="one line|is not an option"):
        site_of().resources_of("train", [override])
