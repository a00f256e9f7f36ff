"""The command line as a person meets it: help, exit codes, JSON, interruption, doing nothing twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from graphufs.cli import main
from graphufs.config import loading
from graphufs.errors import Diverged, UserError
from graphufs.model.compilation_cache import SUFFIX
from graphufs.steps import CHAINS, STEPS
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from tests.conftest import TINY
from tests.support.command import graphufs


def program(*arguments, **options):
    """The command in a process of its own, as a person starts it."""
    command = [sys.executable, "-m", "graphufs.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def test_help_names_every_step():
    shown = program("--help").stdout
    assert all(step.replace("_", "-") in shown for step in STEPS)


def test_help_shows_each_command_in_one_group():
    commands = [name for name in main.app if not name.startswith("-")]
    grouped = [name for names in main.GROUPS.values() for name in names.split()]
    assert sorted(grouped) == sorted(commands)


def test_a_mistyped_experiment_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"dmeo: No such file or directory \(did you mean demo\?\)"):
        loading.load("dmeo")
    with pytest.raises(UserError, match=r"No such file or directory$"):
        loading.load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("arguments", [("trian", TINY), ("train",), ("train", TINY, "--no-such-option")])
def test_a_wrong_command_line_is_bad_input(arguments):
    assert graphufs(*arguments).returncode == 2


def test_bad_input_is_one_clear_message_and_leaves_nothing(tmp_path):
    result = graphufs("run", TINY, "--set", "training.batchsize=8", "--root", tmp_path / "root")
    assert result.returncode == 2
    assert "training.batchsize: unknown key (did you mean training.batch_size?)" in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "root").exists()


def test_a_step_without_its_input_says_what_to_run_first(tmp_path):
    result = graphufs("train", TINY, "--root", tmp_path)
    assert result.returncode == 2 and "graphufs prepare" in result.stderr and "Traceback" not in result.stderr


def test_run_on_finished_work_repeats_nothing_and_prints_the_table(finished_root):
    result = graphufs("run", TINY, "--root", finished_root)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("was done already") == len(CHAINS["run"])
    assert "Persistence" in result.stdout and "Report:" in result.stdout


def test_results_come_as_json(finished_root):
    result = graphufs("run", TINY, "--root", finished_root, "--json")
    steps = json.loads(result.stdout)
    assert [step["step"] for step in steps] == list(CHAINS["run"])
    assert {step["status"] for step in steps} == {"unchanged"}


def test_show_prints_every_default_and_every_place(tiny, finished_root):
    result = graphufs("show", TINY, "--root", finished_root)
    assert "mesh2grid_normalization: 0.618" in result.stdout
    assert str(Paths(tiny, finished_root).report) in result.stdout and "not yet" not in result.stdout


def test_check_tells_what_the_source_holds(finished_root):
    result = graphufs("check", TINY, "--root", finished_root, "--json")
    assert result.returncode == 0 and json.loads(result.stdout)
    result = graphufs("check", TINY, "--root", finished_root, "--set", "data.inputs=[pressfc, tmp3m]")
    assert result.returncode == 2 and "tmp3m" in result.stderr


def test_an_interrupt_saves_and_the_repeated_command_goes_on(normalized_root, copy_of_root):
    root = copy_of_root(normalized_root)
    long = "training.stages=[{name: one, updates: 4000}]"
    arguments = ["train", str(TINY), "--root", str(root), "--set", long, "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "graphufs.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 200
        while not list(root.glob("runs/tiny/*/checkpoints/0*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert json.loads(out)[0]["status"] == "stopped"
    last = max(int(path.name) for path in root.glob("runs/tiny/*/checkpoints/0*"))
    assert 0 < last < 4000


@pytest.mark.long  # the file there and back: tests/deepmind; a start from it: test_warm_start
def test_weights_go_out_in_deepminds_format_and_come_back_as_a_start(finished_root, copy_of_root, tiny, tmp_path):
    root, file = copy_of_root(finished_root), tmp_path / "tiny.npz"
    trained = Paths(tiny, root)
    shutil.rmtree(trained.run / "forecasts")
    done = graphufs("export", trained.checkpoints / "00000016", file)
    assert done.returncode == 0 and str(file) in done.stdout, done.stderr
    result = graphufs("train", TINY, "--root", root, "--init-from", file, "--json")
    assert result.returncode == 0, result.stderr
    (step,) = json.loads(result.stdout)
    assert step["warnings"][0].startswith(f"initial weights from {file}: of ")
    again = Paths(loading.load(TINY, [f"training.init_from={file}"]), root)
    assert again.run != trained.run and step["checkpoint"] == str(again.checkpoints / "00000016")
    report = json.loads((again.run / "initial.json").read_text())
    assert {tensor["how"] for tensor in report["tensors"]} == {"kept"}  # both sets of names sort alike here
    first, from_file = (metrics_file.read(paths.metrics)[0]["loss"] for paths in (trained, again))
    assert from_file < first


def test_what_is_compiled_is_kept_below_the_root(finished_root, copy_of_root):
    root = copy_of_root(finished_root)
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    result = program("forecast", TINY, "--root", root, "--set", "forecast.lead_time=12h", "--json", env=environment)
    assert result.returncode == 0, result.stderr
    assert any((root / "cache" / "jax").glob(f"jit_*{SUFFIX}"))
    assert not any((root / "cache" / "jax").glob("*-cache"))  # JAX's own store, which several processes damage


def test_a_crosscheck_without_the_official_package_says_what_to_install(finished_root, tiny):
    result = graphufs("crosscheck", Paths(tiny, finished_root).checkpoints / "00000016")
    assert result.returncode == 2 and "google-deepmind/graphcast" in result.stderr and "Traceback" not in result.stderr


def test_a_training_that_diverges_has_failed(monkeypatch, tmp_path, capsys):
    def diverge(*arguments, **options):
        raise Diverged("the loss of update 7 is not finite")

    monkeypatch.setattr(main, "run_steps", diverge)
    with pytest.raises(SystemExit) as ended:
        main.main(["train", str(TINY), "--root", str(tmp_path)])
    assert ended.value.code == 1 and "update 7 is not finite" in capsys.readouterr().err
