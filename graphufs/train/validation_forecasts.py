"""Validation forecasts: a few short forecasts over the validation period, scored while the training goes on.

Forecasts, truth, persistence and the RMSE are those of the evaluation (graphufs.weatherbench). The score is the mean,
over channels and lead times, of the RMSE divided by persistence's: below 1 is better than persistence, lower is better.
Weighing fields by persistence lets every field and lead time count, whatever its unit. For an ensemble its fair CRPS
stands in the place of the RMSE, and beside it persistence's, which is a mean absolute error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphufs.data.dataset import PreparedData
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.network import GraphCast
from graphufs.weatherbench.inputs.forecasts import Forecasts
from graphufs.weatherbench.inputs.truth import PreparedTruth
from graphufs.weatherbench.scoring.baselines import persistence
from graphufs.weatherbench.scoring.score import FORECAST, score


class _NoClimatology:
    """Stands where scoring wants a climatology; persistence and the RMSE need none."""

    def __init__(self, frame_shape: tuple[int, ...]) -> None:
        self._zeros = np.zeros((1, *frame_shape), np.float32)

    def read(self, stamps: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._zeros, (len(stamps), *self._zeros.shape[1:]))


@dataclass(frozen=True)
class Score:
    """A set's score, and the RMSE, and what the score is of, by channel name at the last lead time.

    That is the ratio of the RMSE to persistence's; for an ensemble, of whose mean the RMSE is, that of the CRPS.
    """

    score: float
    rmse: dict[str, float]
    ratio: dict[str, float]


@dataclass
class ValidationForecaster:
    """Makes and scores the same forecasts again and again, with other parameters."""

    emulator: ReplayEmulator
    data: PreparedData
    initial_times: NDArray[np.datetime64]
    steps: int
    members: int = 1
    _chunk: int = field(default=1)

    @staticmethod
    def of(emulator: ReplayEmulator, data: PreparedData) -> ValidationForecaster | None:
        """The validation forecasts of an experiment; None where it wants none.

        Raises
        ------
        UserError
            If the validation period has no initial time with whole data.
        """
        experiment = emulator.experiment
        wanted = experiment.training.validation_forecasts
        if wanted is None:
            return None
        steps = wanted.lead_time // experiment.data.time_step
        there = data.samples(experiment.data.validation, experiment.data.input_frames, steps).initial
        if not there.size:
            raise UserError(
                f"no initial time of the validation period {experiment.data.validation} has whole data for forecasts "
                f"of {wanted.lead_time}h; shorten training.validation_forecasts.lead_time or prepare more data"
            )
        count = min(wanted.initial_times, there.size)
        chosen = there[np.unique(np.linspace(0, there.size - 1, count).round().astype(int))]
        chunk = max(n for n in range(1, experiment.forecast.batch_size + 1) if len(chosen) % n == 0)
        return ValidationForecaster(emulator, data, chosen, steps, experiment.validation_members, chunk)

    def score(self, network: GraphCast) -> Score:
        """Forecast with the given parameters and score."""
        emulator = self.emulator.with_network(network)
        parts = [
            emulator.forecast(
                self.data, list(self.initial_times[first : first + self._chunk]), self.steps, self.members
            )
            for first in range(0, len(self.initial_times), self._chunk)
        ]
        import xarray as xr

        forecasts = Forecasts(xr.concat(parts, "time"), origin="the validation forecasts")
        truth = PreparedTruth(self.data, forecasts.channels, forecasts.grid)
        shape = (len(forecasts.channels), *forecasts.grid.shape)
        states = score(
            forecasts,
            truth,
            _NoClimatology(shape),
            self.initial_times,
            {"persistence": persistence},
            statistics=("squared_error",),
        )
        metric = "crps" if self.members > 1 else "rmse"
        found, reference = (
            states[name].finalize((metric,))[metric][..., 0] for name in (FORECAST, "persistence")
        )  # [lead, channel]
        ratio, rmse = found / reference, states[FORECAST].finalize(("rmse",))["rmse"][..., 0]
        names = [str(channel) for channel in forecasts.channels]
        return Score(
            score=float(ratio.mean()),
            rmse=dict(zip(names, rmse[-1].tolist(), strict=True)),
            ratio=dict(zip(names, ratio[-1].tolist(), strict=True)),
        )
