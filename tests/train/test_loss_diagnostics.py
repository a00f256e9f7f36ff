"""What an experiment asks its loss to diagnose: weights, scale, and a whole training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphufs.config import loading
from graphufs.config.training import Loss
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train import metrics_file
from graphufs.train.train_step import Objective
from tests.conftest import TINY
from tests.support.emulators import emulator


def test_it_has_its_weight_and_the_scale_of_its_parts() -> None:
    one = emulator(("tmp", "ugrd10m", "vgrd10m"))
    loss = Loss(diagnostics=("10m_wind_speed",), variable_weights={"10m_wind_speed": 0.25})
    training = one.experiment.training.model_copy(update={"loss": loss})
    one = replace(one, experiment=one.experiment.model_copy(update={"training": training}))
    weights = Objective(one, None, None).weights  # type: ignore[arg-type]
    assert float(weights.variables["10m_wind_speed"]) == 0.25 and weights.levels["10m_wind_speed"].tolist() == [1.0]
    assert one.statistics is not None and weights.diagnosed is not None
    u, v = (one.statistics.diffs_std[name] for name in ("ugrd10m", "vgrd10m"))
    np.testing.assert_allclose(weights.diagnosed.scales["10m_wind_speed"], np.sqrt((u**2 + v**2) / 2), rtol=1e-6)
    assert set(weights.variables) == {"tmp", "ugrd10m", "vgrd10m", "10m_wind_speed"}


@pytest.mark.long  # a world, statistics and a training of its own
def test_a_training_tells_the_errors_of_what_it_diagnoses(tmp_path: Path) -> None:
    variables = "[pressfc, tmp, spfh, ugrd10m, vgrd10m]"
    experiment = loading.load(
        TINY,
        [
            f"data.targets={variables}",
            f"data.inputs={variables}",
            "data.forcings=[]",
            "data.levels=[500, 850]",
            "data.transforms={spfh: {function: log}}",
            "training.loss.diagnostics=[10m_wind_speed, hydrostatic_thickness]",
        ],
    )
    for step in ("prepare", "normalize", "train"):
        assert run_step(step, experiment, tmp_path)["status"] == "completed"
    lines = [one for one in metrics_file.read(Paths(experiment, tmp_path).metrics) if one["event"] == "update"]
    for one in lines:
        assert len(one["error_by_level"]["hydrostatic_thickness"]) == 2
        # in units of usual changes as its parts are, which may add up
        for name, parts in (
            ("hydrostatic_thickness", ("pressfc", "tmp", "spfh")),
            ("10m_wind_speed", ("ugrd10m", "vgrd10m")),
        ):
            of_parts = [one["loss_by_variable"][part] for part in parts]
            assert 0.1 * min(of_parts) < one["loss_by_variable"][name] < len(parts) * max(of_parts)
    assert lines
