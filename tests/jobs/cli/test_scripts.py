"""The entry scripts people type: here, or as jobs of a site."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from jobs.job.folder import JobFolder
from tests.conftest import TINY

STEPS = {
    "calc_normalization": ("prepare", "normalize"),
    "run_training": ("prepare", "normalize", "train"),
    "run_evaluation": ("forecast", "evaluate", "report"),
}


def entry(script, *arguments):
    command = [sys.executable, TINY.parents[1] / "jobs" / f"{script}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("script", STEPS)
def test_help_names_the_steps_the_default_and_the_options(script):
    shown = entry(script, "--help")
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.split())
    assert ", ".join(STEPS[script]) in words and "p0" in words
    assert all(option in words for option in ("--site", "--wait", "--resource", "--set", "--root"))


@pytest.mark.parametrize("script", ["run_training", pytest.param("run_evaluation", marks=pytest.mark.long)])
def test_without_a_site_the_steps_run_here(finished_root, copy_of_root, script):
    root = copy_of_root(finished_root)
    done = entry(script, TINY, "--root", root)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("was done already") == len(STEPS[script])
    assert not (root / "jobs").exists()


def test_with_a_site_the_steps_are_jobs_in_a_chain(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    done = entry("calc_normalization", "tiny", "--root", root, "--site", "local", "--wait", "--resource", "cpus=2")
    assert done.returncode == 0, done.stderr
    prepare, normalize = sorted(
        JobFolder.all(root), key=lambda job: STEPS["calc_normalization"].index(job.require().step)
    )
    assert normalize.require().needs == (prepare.key,) and prepare.require().needs == ()
    for job in (prepare, normalize):
        result, attempt = job.result(), job.attempt()
        assert result is not None and attempt is not None
        assert result["result"]["status"] == "unchanged" and attempt.resources["cpus"] == 2
    # with --wait or without, a second time it attaches to what is there
    again = entry("calc_normalization", "tiny", "--root", root, "--site", "local")
    assert again.returncode == 0 and again.stderr.count("completed already") == 2
    listed = subprocess.run(
        [sys.executable, "-m", "jobs", "status", "--root", root, "--json"], capture_output=True, text=True
    )
    assert {job["key"] for job in json.loads(listed.stdout)["jobs"]} == {prepare.key, normalize.key}


def test_a_failed_job_is_told_and_gives_exit_code_1(tmp_path):
    done = entry("run_evaluation", TINY, "--root", tmp_path, "--site", "local", "--wait")
    assert done.returncode == 1, done.stderr
    assert "graphufs train" in done.stderr and "--site debug" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--site", "nowhere"], "there is no site 'nowhere'"),
        (["--site", "local", "--resource", "gpu=2"], "did you mean"),
        (["--wait"], "go with --site"),
        (["--set", "training.batchsize=8"], "did you mean training.batch_size?"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(tmp_path, arguments, words):
    done = entry("run_training", TINY, "--root", tmp_path / "root", *arguments)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "root").exists()
