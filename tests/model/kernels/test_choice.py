"""Which kernels an experiment's network gets: those it asks for, and by itself only those that were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from graphufs.config.model import Model
from graphufs.errors import UserError
from graphufs.model.arrangement import CPU, GPU
from graphufs.model.kernels.choice import measurements, with_kernels

KIND = "NVIDIA Made-up 80GB"
FASTER = {
    "device_kind": KIND, "precision": "bfloat16", "latent_size": 256, "right": True, "xla": 0.09, "fused": 0.03,
    "source": "made up",
}  # fmt: skip


def auto(
    folder: Path, *contents: dict[str, Any], precision: str = "bfloat16", kind: str = KIND, size: int = 256
) -> str:
    for index, content in enumerate(contents):
        (folder / f"{index}.yaml").write_text(yaml.safe_dump(content))
    return with_kernels(GPU, Model(latent_size=size), precision, device_kind=kind, folder=folder).kernels


def test_auto_is_fused_only_where_it_was_measured_to_be_right_and_faster(tmp_path: Path) -> None:
    assert auto(tmp_path) == "xla"
    assert auto(tmp_path, FASTER) == "fused"
    assert auto(tmp_path, precision="float32") == auto(tmp_path, kind="another") == auto(tmp_path, size=128) == "xla"
    assert auto(tmp_path, FASTER, FASTER | {"right": False}) == "xla"
    assert auto(tmp_path, FASTER, FASTER | {"fused": 0.1}) == "xla"


def test_no_card_is_trusted_before_it_was_measured() -> None:
    assert all("made up" not in one.source for one in measurements())
    assert with_kernels(GPU, Model(), "bfloat16", device_kind=KIND).kernels == "xla"


@pytest.mark.parametrize("change", [{"right": "yes"}, {"fused": -1.0}, {"xla": None}, {"more": 1}])
def test_a_file_that_is_no_measurement_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"0\.yaml"):
        auto(tmp_path, FASTER | change)


def test_what_is_asked_for_is_taken_on_gpus_and_refused_on_cpus(tmp_path: Path) -> None:
    assert with_kernels(GPU, Model(kernels="fused"), "float32").kernels == "fused"
    assert with_kernels(GPU, Model(kernels="xla"), "float32").kernels == "xla"
    assert with_kernels(CPU, Model(), "float32") == with_kernels(CPU, Model(kernels="xla"), "float32") == CPU
    with pytest.raises(UserError, match=r"no GPU here; set model\.kernels to xla"):
        with_kernels(CPU, Model(kernels="fused"), "float32")


@pytest.mark.parametrize("network", [{"hidden_layers": 2}, {"latent_size": 96}])
def test_networks_without_fused_kernels_are_refused_where_they_are_asked_for(network: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="kernels is fused, but .* set model.kernels to xla"):
        Model(kernels="fused", **network)
    assert Model(kernels="auto", **network).kernels == "auto"
