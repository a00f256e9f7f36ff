"""`graphufs plan`: what it says with and without a compiler for GPUs, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jax
import pytest

from graphufs.cli.main import main
from graphufs.config import loading
from graphufs.plan import cost, measured
from graphufs.plan.ahead import Machine
from graphufs.plan.child import python_with_cuda
from graphufs.plan.domains import domain_of
from graphufs.plan.programs import TrainingPrograms
from graphufs.plan.target import Target
from graphufs.train.devices import Devices
from tests.conftest import TINY


def plan(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(TINY), *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(cost, "python_with_cuda", lambda: None)


def test_without_the_compiler_one_line_says_so_and_what_needs_none_is_said(no_compiler, tmp_path, capsys):
    assert plan("--root", tmp_path, "--device", "a100") == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if "make setup-cuda" in line] == [cost.NO_COMPILER]
    assert "NVIDIA A100" in said and "12 updates" in said and "On disk: data" in said
    assert not list(tmp_path.iterdir())


def test_without_the_compiler_the_matrix_products_are_counted(no_compiler, tmp_path, capsys):
    assert plan("--root", tmp_path, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    one, two = (result["matrix_products"][name]["flop"] for name in ("one-step", "rollout"))
    assert result["not_compiled"] == cost.NO_COMPILER and result["parameters"] > 1000
    assert 2 * one < two < 4 * one  # two steps, each computed again for the gradient


def test_without_stages_a_forecast_is_all_that_is_planned(monkeypatch, tmp_path, capsys):
    sizes = {"memory": {"total": 2**30}, "bytes": 1e9, "flop": 1e12, "kernels": 5, "seconds": 0.01}
    forecast = sizes | {"limit": "traffic", "warnings": [], "initial_times": 1, "steps": 4}
    found = {"stages": {}, "forecast": forecast}
    monkeypatch.setattr(cost, "python_with_cuda", lambda: "python")
    monkeypatch.setattr(cost, "compile_in_child", lambda *_, **__: found)
    settings = (
        "training.stages=[]",
        "training.init_from=elsewhere",
        "training.init_statistics=source",
        "evaluation.climatology={start: 1994-01-01T00, end: 1994-01-02T00}",
    )
    assert plan("--root", tmp_path, *(part for one in settings for part in ("--set", one))) == 0
    said = capsys.readouterr().out
    assert "forecast, 1 x 4 steps" in said and "On disk" in said and "update of" not in said and "GPU-hours" not in said


@pytest.mark.long  # it counts the operations of two updates
def test_an_update_of_an_ensemble_costs_what_its_members_cost(no_compiler, tmp_path, capsys):
    ensemble = ("--set", "model.noise=32", "--set", "training.stages.0.loss={kind: crps, members: 3}")
    found = []
    for arguments in ((), ensemble):
        assert plan("--root", tmp_path, "--json", *arguments) == 0
        found.append(json.loads(capsys.readouterr().out))
    one, three = (result["matrix_products"]["one-step"]["flop"] for result in found)
    assert 2 * one < three <= 1.1 * 3 * one
    assert found[1]["parameters"] - found[0]["parameters"] == (6 + 2 * 2) * 32 * 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "h1OO"], "no device 'h1OO' to plan for"),
        (["--device", "../h100"], "no device '../h100' to plan for"),
        (["--devices", "0"], "--devices is 0; it must be from 1 to 64"),
        (["--nodes", "-1"], "--nodes is -1"),
        (["--nodes", "1000000000"], "--nodes is 1000000000; it must be from 1 to 4096"),
        (["--devices", "3"], "a batch of 2 cannot be shared evenly by 1 x 3 devices"),
        (["--grid", "360"], "no grid 360"),
        (["--grid", "99999x99999"], "has 9,999,800,001 points"),
        (["--set", "data.levels=[]", "--grid", "64x32"], "tmp has levels, but data.levels names none"),
    ],
)
def test_what_cannot_be_planned_is_one_error(no_compiler, arguments, words, tmp_path, capsys):
    assert plan("--root", tmp_path, *arguments) == 2
    said = capsys.readouterr()
    assert words in said.err and said.out == ""


def test_a_share_of_memory_that_is_none_is_refused(no_compiler, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "most")
    assert plan("--root", tmp_path) == 2
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION is 'most'" in capsys.readouterr().err


def test_how_far_predictions_were_off_is_said_from_what_was_measured(tmp_path):
    assert "No prediction was compared" in measured.words("h100", tmp_path)
    rows = [
        {"case": "p0 1", "device": "h100", "seconds": 0.01, "measured": 0.02},
        {"case": "p0 16", "device": "h100", "seconds": 0.1, "measured": 0.05},
        {"case": "p0 4", "device": "h100", "seconds": 0.1, "measured": None},
        {"case": "p0 16", "device": "a100", "seconds": 0.1, "measured": 0.9},
    ]
    (tmp_path / "gpu-1.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "gpu-2.json").write_text("{")
    assert "1.00 times the predicted ones (p0 1 2.00, p0 16 0.50)" in measured.words("h100", tmp_path)


@pytest.mark.long
def test_tiny_is_compiled_for_an_h100(tmp_path, capsys, monkeypatch):
    if python_with_cuda() is None:
        pytest.skip("there is no .venv-cuda; make setup-cuda makes it")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert plan("--root", tmp_path, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    update = result["stages"]["one-step"]
    assert result["device_batch_size"] | {"needed": 0, "extrapolated": 0} == {
        "share": 2, "size": 2, "needed": 0, "extrapolated": 0,
    }  # fmt: skip
    assert update["kernels"] > 50 and update["limit"] == "launches" and not result["warnings"]
    assert 1e6 < update["bytes"] < 1e9 and 0 < update["memory"]["total"] < 2**30
    # XLA's products are those that JAX traces, but for what it finds it need not compute
    monkeypatch.setattr(cost, "python_with_cuda", lambda: None)
    assert plan("--root", tmp_path, "--json") == 0
    traced = json.loads(capsys.readouterr().out)["matrix_products"]["one-step"]["flop"]
    assert 0.8 * traced < update["flop"] <= traced
    assert result["training"]["gpu_hours"] == pytest.approx(result["training"]["hours"])
    assert re.search("No prediction was compared|Measured times", result["accuracy"])


@pytest.mark.parametrize("sharded", [False, True])
def test_moments_are_planned_as_they_are_divided(sharded, tmp_path):
    experiment = loading.load(TINY, [f"training.compute.shard_optimizer={str(sharded).lower()}"])
    domain, _, _ = domain_of(experiment, tmp_path, "16x8")
    machine = Machine(Target.named("h100"), 4, 1, Devices(tuple(jax.devices()) * 4))
    programs = TrainingPrograms(experiment, domain, machine)
    _, (state, *_) = programs.update(1, experiment.training.optimizer, 1, 4)

    def held(tree):
        return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(tree))

    assert held(state.network) == programs.parameters
    moments = held(state.optimizer) / (2 * programs.parameters)
    assert moments < 0.4 if sharded else moments >= 1


@pytest.mark.long
def test_a_batch_over_two_cards_is_compiled_with_its_exchange(tmp_path, capsys, monkeypatch):
    if python_with_cuda() is None:
        pytest.skip("there is no .venv-cuda; make setup-cuda makes it")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert plan("--root", tmp_path, "--devices", 2, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["device_batch_size"]["share"] == 1
    assert result["stages"]["one-step"]["exchanged"] >= 4 * result["parameters"]
    assert result["training"]["gpu_hours"] == pytest.approx(2 * result["training"]["hours"])
