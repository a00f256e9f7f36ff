"""What computes messages between grid and mesh: what an experiment asks for, and `auto` by what was measured.

A file in `measured/` is a measurement on one kind of card, made of what benchmarks/gpu.py says there: YAML with the
keys of `Measurement`. There is none for a card on which the kernels never ran, and `auto` is XLA there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import jax
import yaml

from graphufs.config.model import Model, why_not_fused
from graphufs.errors import UserError
from graphufs.model.arrangement import CPU, Arrangement, arrangement_for

MEASURED = Path(__file__).parent / "measured"


@dataclass(frozen=True)
class Measurement:
    """Fused kernels against XLA on one kind of card."""

    device_kind: str
    """As JAX names it, such as NVIDIA H100 80GB HBM3."""
    precision: str
    latent_size: int
    right: bool
    """Whether values and all gradients were those of the plain formulas, to rounding."""
    xla: float
    """Seconds of a training step."""
    fused: float
    source: str
    """Case, date, commit and command."""


def measurements(folder: Path = MEASURED) -> list[Measurement]:
    """All there are.

    Raises
    ------
    UserError
        If a file is not a measurement.
    """
    found = []
    for file in sorted(folder.glob("*.yaml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        wanted = {field.name: field.type for field in fields(Measurement)}
        if not isinstance(content, dict) or set(content) != set(wanted):
            raise UserError(f"{file} is not a measurement of kernels; it must have the keys {', '.join(wanted)}")
        one = Measurement(**content)
        numbers = all(isinstance(value, float) and value > 0 for value in (one.xla, one.fused))
        if not numbers or not isinstance(one.right, bool) or not isinstance(one.latent_size, int):
            raise UserError(f"{file}: xla and fused must be seconds above 0, right true or false, latent_size a number")
        found.append(one)
    return found


def with_kernels(
    arrangement: Arrangement | None,
    model: Model,
    precision: str,
    *,
    device_kind: str | None = None,
    folder: Path = MEASURED,
) -> Arrangement:
    """The arrangement, or that of the backend at hand, with the kernels that an experiment's network gets there.

    Parameters
    ----------
    device_kind
        Of the card; None: of the first device at hand, where that is a GPU.
    folder
        Of measurements.

    Raises
    ------
    UserError
        If the experiment asks for fused kernels on a CPU.
    """
    arrangement = arrangement or arrangement_for()
    if arrangement.kernels != "xla" or model.kernels == "xla":
        return arrangement
    if model.kernels == "fused":
        if arrangement == CPU:
            raise UserError("model.kernels is fused, and there is no GPU here; set model.kernels to xla or auto")
        return replace(arrangement, kernels="fused")
    if arrangement == CPU or why_not_fused(model.latent_size, model.hidden_layers):
        return arrangement
    if device_kind is None and jax.default_backend() == "gpu":
        device_kind = jax.devices()[0].device_kind
    of_card = [
        one
        for one in measurements(folder)
        if (one.device_kind, one.precision, one.latent_size) == (device_kind, precision, model.latent_size)
    ]
    better = bool(of_card) and all(one.right and one.fused < one.xla for one in of_card)
    return replace(arrangement, kernels="fused") if better else arrangement
