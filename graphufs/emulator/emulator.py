"""ReplayEmulator: experiment, domain, statistics and network together make forecasts.

emulator = ReplayEmulator.from_yaml("experiments/demo.yaml", root="graphufs-root")   # untrained
emulator = emulator.load_normalization()
for batch in emulator.get_training_batches():
    inputs, targets, forcings = emulator.fields(batch)

emulator = ReplayEmulator.from_checkpoint("graphufs-root/runs/demo/<hash>/checkpoints/<update>")
dataset = emulator.forecast(data, [np.datetime64("1995-01-01T06")], steps=40)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import Batch, BatchLoader, WindowReader
from graphufs.emulator import checkpoint
from graphufs.emulator.domain import Domain
from graphufs.emulator.draws import member_noise
from graphufs.emulator.forecast_layout import forecast_template, in_weatherbench_units
from graphufs.emulator.rollout import rollout
from graphufs.errors import UserError
from graphufs.graph.build import Graph, build_graph
from graphufs.graph.partition import Partition
from graphufs.model.arrangement import Arrangement
from graphufs.model.channels import ChannelMap
from graphufs.model.compile import jit
from graphufs.model.kernels.choice import with_kernels
from graphufs.model.network import GraphCast
from graphufs.model.one_step import Stepper
from graphufs.normalization.statistics import Statistics, statistics_damage
from graphufs.normalization.transforms import apply, inverse, statistics_names
from graphufs.storage.paths import Paths
from graphufs.vocabulary import cf

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATISTICS = ("mean", "std", "diffs_std")

Fields = dict[str, Any]
"""Arrays [batch, time, level, lat, lon] by variable, where an axis of length 1 stands for all."""

REMAT_BLOCKS = {"auto": None, "nothing": False, "steps": False, "blocks": True, "everything": True}
"""Whether blocks of grid points are computed again for the gradient, by training.compute.rematerialize."""


@dataclass(frozen=True)
class ReplayEmulator:
    """An emulator of UFS Replay: its experiment, its domain, and the parameters of its network."""

    experiment: Experiment
    domain: Domain
    network: GraphCast
    statistics: Statistics | None = None
    """Of transformed fields where data.transforms names the variable; None until `load_normalization`."""
    root: Path | None = None
    """The folder its experiment works in; None for one from a checkpoint."""
    arrangement: Arrangement | None = None
    """How its network is computed; None: as the backend at hand does."""

    @classmethod
    def from_yaml(
        cls, path: Path | str, root: Path | str = "graphufs-root", overrides: Sequence[str] = ()
    ) -> ReplayEmulator:
        """An untrained emulator of an experiment whose data are prepared under `root`.

        Raises
        ------
        UserError
            If the experiment is not valid or its data are not prepared.
        """
        return cls.from_experiment(loading.load(path, overrides), root)

    @classmethod
    def from_experiment(cls, experiment: Experiment, root: Path | str) -> ReplayEmulator:
        """As `from_yaml`, from a loaded experiment."""
        paths = Paths(experiment, Path(root))
        return cls.untrained(experiment, Domain.of(PreparedData.open(paths.data)), paths.root)

    @classmethod
    def untrained(cls, experiment: Experiment, domain: Domain, root: Path | None = None) -> ReplayEmulator:
        """The emulator of an experiment on a domain, with the parameters that its seed makes."""
        return cls(experiment, domain, _untrained(experiment, domain), root=root)

    @classmethod
    def from_checkpoint(cls, path: Path | str) -> ReplayEmulator:
        """A trained emulator, complete with statistics, from a checkpoint folder.

        Raises
        ------
        UserError
            If there is no checkpoint, or it is damaged.
        """
        path = Path(path)
        meta = checkpoint.read_meta(path)
        experiment = loading.parse(json.dumps(meta["experiment"]), origin=str(path / "meta.json"))
        arrays = checkpoint.read_arrays(path, "emulator.npz")
        domain = Domain.from_arrays(arrays)
        like = jax.eval_shape(partial(_untrained, experiment, domain))
        network = checkpoint.unflatten(like, arrays, "network", path)
        return cls(experiment, domain, network, _statistics_from(arrays))

    @classmethod
    def outline(cls, experiment: Experiment, domain: Domain, arrangement: Arrangement) -> ReplayEmulator:
        """An emulator to trace and compile with, not to compute: parameters are shapes, statistics zeros and ones."""
        data, slices = experiment.data, domain.slices
        names = sorted({*data.inputs, *data.targets, *data.forcings})
        ones = {name: np.ones(part.stop - part.start if (part := slices.get(name)) else 1) for name in names}
        zeros = {name: np.zeros_like(values) for name, values in ones.items()}
        varying = {name: values for name, values in ones.items() if name not in domain.static}
        network = jax.eval_shape(partial(_untrained, experiment, domain))
        return cls(experiment, domain, network, Statistics(zeros, ones, varying), arrangement=arrangement)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that `from_checkpoint` needs besides the experiment: parameters, `Domain.arrays`, statistics [level]."""
        network = checkpoint.flatten(self.network, "network")
        statistics = {
            f"statistics.{kind}.{name}": values
            for kind in STATISTICS
            for name, values in getattr(self._normalized(), kind).items()
        }
        return {**network, **self.domain.arrays(), **statistics}

    def load_normalization(self) -> ReplayEmulator:
        """This emulator with the statistics that `graphufs normalize` made.

        Raises
        ------
        UserError
            If they are not there, or damaged.
        """
        if self.root is None:
            raise UserError("an emulator from a checkpoint has its statistics already")
        folder, data = Paths(self.experiment, self.root).statistics(), self.experiment.data
        if not folder.is_dir():
            raise UserError(f"there are no statistics in {folder}; run `graphufs normalize` with this experiment first")
        if (damage := statistics_damage(folder)) is not None:
            raise UserError(
                f"the statistics in {folder} are damaged ({damage}); `graphufs normalize` with this experiment makes "
                "them again"
            )
        names = sorted({*data.inputs, *data.targets, *data.forcings})
        # channels are sorted by level, so are the statistics
        stored_as = statistics_names(data.transforms, names)
        return replace(self, statistics=Statistics.open(folder, names, sorted(data.levels), stored_as=stored_as))

    def get_training_batches(self, stage: int = 0, epochs: int = 1) -> Iterator[Batch]:
        """The shuffled batches of a training stage, read ahead; `fields` sorts one into inputs, targets, forcings.

        Raises
        ------
        UserError
            If the emulator is from a checkpoint, which has no data, or the data are not prepared.
        """
        if self.root is None:
            raise UserError("an emulator from a checkpoint has no training data; make it with from_yaml")
        data = PreparedData.open(Paths(self.experiment, self.root).data)
        samples = training_samples(self.experiment, data, stage)
        loader = BatchLoader(samples, self.experiment.training.batch_size, (self.experiment.training.seed, stage))
        for _, batch in loader.batches(0, epochs * loader.batches_per_epoch):
            yield batch

    @cached_property
    def channels(self) -> ChannelMap:
        """The network's channels."""
        return _channels(self.experiment, self.domain)

    def build_graph(self) -> Graph:
        """The graph of its grid and mesh."""
        model = self.experiment.model
        return build_graph(
            self.domain.latitude,
            self.domain.longitude,
            mesh_size=model.mesh_size,
            radius_fraction=model.radius_fraction,
            mesh2grid_normalization=model.mesh2grid_normalization,
            ties=model.mesh2grid_ties,
        )

    @cached_property
    def stepper(self) -> Stepper:
        """Graph, statistics and masks on the device.

        Raises
        ------
        UserError
            If the statistics are not loaded.
        """
        return self.stepper_on(self.build_graph())

    def stepper_on(self, graph: Graph | Partition) -> Stepper:
        """As `stepper`, on a graph or the parts of one."""
        statistics, model, compute = self._normalized(), self.experiment.model, self.experiment.training.compute
        return Stepper.build(
            self.channels,
            graph,
            mean=statistics.mean,
            std=statistics.std,
            diffs_std=statistics.diffs_std,
            latent_size=model.latent_size,
            masks=self.domain.masks(self.experiment.data),
            precision=compute.precision,
            remat_blocks=REMAT_BLOCKS[compute.rematerialize],
            arrangement=with_kernels(self.arrangement, model, compute.precision),
        )

    def with_network(self, network: GraphCast) -> ReplayEmulator:
        """This emulator with other parameters; what is compiled and on the device already is shared."""
        other = replace(self, network=network)
        for name in ("channels", "stepper", "rollout_program"):
            other.__dict__[name] = getattr(self, name)
        return other

    def fields(self, batch: Batch, static: Mapping[str, Any] | None = None) -> tuple[Fields, Fields, Fields]:
        """Inputs, targets and forcings of a batch; works on host arrays and inside jit.

        Inputs have `input_frames` times (static ones a single one), targets and forcings the times after them. They are
        what network, rollout and loss are about: variables named in data.transforms transformed, all others in
        physical units. `static` [lat, lon] by name are the domain's, unless the batch's fields are on other points.
        """
        data = self.experiment.data
        frames, now = data.input_frames, slice(0, data.input_frames)
        stored = {name: batch.frames[:, :, part] for name, part in self.domain.slices.items()}
        everything = {**stored, **batch.derived}
        fields = self.domain.static if static is None else static
        static = {name: field[None, None, None] for name, field in fields.items()}
        everything, static = apply(data.transforms, everything), apply(data.transforms, static)
        inputs = {name: static[name] if name in static else everything[name][:, now] for name in data.inputs}
        targets = {name: everything[name][:, frames:] for name in data.targets}
        forcings = {name: everything[name][:, frames:] for name in data.forcings}
        return inputs, targets, forcings

    def predict(self, batch: Batch, noise: NDArray[np.float32] | None = None) -> dict[str, NDArray[np.float32]]:
        """Roll out over the times after the batch's input frames; what comes back is in physical units.

        The state the rollout carries is that of `fields`; transforms are undone at the end. Returns
        [batch, steps, level, lat, lon] by target. Of the frames after the input frames only the forcings are looked at.
        A window of one such frame is a single step. `noise` [batch, steps, channel] makes a member, see `noise_of`.
        """
        predictions = self.rollout_program(self.network, self.stepper, batch, noise)
        return {name: np.asarray(values) for name, values in predictions.items()}

    @cached_property
    def rollout_program(self) -> Any:
        """The jitted rollout (network, stepper, batch, noise) -> what `predict` returns."""

        def predict(
            network: GraphCast, stepper: Stepper, batch: Batch, noise: jax.Array | None
        ) -> dict[str, jax.Array]:
            inputs, targets, forcings = self.fields(batch)
            steps = next(iter(targets.values())).shape[1]
            predictions = rollout(network, stepper, inputs, forcings, steps=steps, noise=noise)
            return apply(self.experiment.data.transforms, predictions, inverse)

        return jit(predict)

    def noise_of(
        self, member: int, initial_times: NDArray[np.datetime64], steps: int, *, first: int = 0
    ) -> NDArray[np.float32] | None:
        """The noise [time, step, channel], from step `first` on, that makes a member of forecasts from times [time].

        A member is the same however many there are. None for a deterministic network.
        """
        model, seed = self.experiment.model, self.experiment.training.seed
        return member_noise(seed, initial_times, member, steps, model.noise, first=first) if model.noise else None

    def forecast(
        self, data: PreparedData, initial_times: Sequence[np.datetime64], steps: int, members: int = 1
    ) -> xr.Dataset:
        """Forecasts from prepared data as a dataset in WeatherBench2's layout, described as CF has it.

        Several members lie along `number`.

        Raises
        ------
        UserError
            If a needed stamp is not prepared.
        """
        times = np.array(initial_times, dtype="datetime64[ns]")
        samples = WindowReader.of(self.experiment, data, times, steps)
        dataset, batch = forecast_template(self.experiment, self.domain, times, steps, members), samples.read(times)
        parts = [
            in_weatherbench_units(self.predict(batch, self.noise_of(member, times, steps))) for member in range(members)
        ]
        for name in parts[0]:
            values = np.stack([part[name] for part in parts], axis=1)
            dataset[name] = dataset[name].copy(data=values.reshape(dataset[name].shape))
        dataset["time"].encoding = {"units": cf.TIMES_SINCE, "calendar": cf.CALENDAR}
        return dataset

    def plot_map(self, forecast: xr.Dataset, variable: str, **at: Any) -> Figure:
        """A map of one of its forecasts, `at` a level, hours and initial time: `graphufs.emulator.plots.plot_map`."""
        from graphufs.emulator.plots import plot_map  # brings matplotlib, which no step needs

        return plot_map(forecast, variable, **at)

    def plot_scores(self, scores: Path | str, variable: str, **which: Any) -> Figure:
        """Its scores by lead time, of a level and by a metric: `graphufs.emulator.plots.plot_scores`."""
        from graphufs.emulator.plots import plot_scores

        return plot_scores(scores, variable, **which)

    def _normalized(self) -> Statistics:
        if self.statistics is None:
            raise UserError("the emulator has no statistics yet: call load_normalization() first")
        return self.statistics


def training_samples(experiment: Experiment, data: PreparedData, stage: int) -> WindowReader:
    """The samples of a training stage: every initial time whose whole window is in the training period and valid."""
    rollout_length = experiment.training.stages[stage].rollout
    chosen = data.samples(experiment.data.training, experiment.data.input_frames, rollout_length)
    return WindowReader.of(experiment, data, chosen.initial, rollout_length)


def _statistics_from(arrays: Mapping[str, NDArray[Any]]) -> Statistics:
    parts: dict[str, dict[str, NDArray[Any]]] = {kind: {} for kind in STATISTICS}
    for name, values in arrays.items():
        if name.startswith("statistics."):
            _, kind, variable = name.split(".", 2)
            parts[kind][variable] = values
    return Statistics(parts["mean"], parts["std"], parts["diffs_std"])


def _channels(experiment: Experiment, domain: Domain) -> ChannelMap:
    data = experiment.data
    return ChannelMap.build(
        data.inputs,
        data.targets,
        data.forcings,
        levels={name: part.stop - part.start for name, part in domain.slices.items()},
        input_frames=data.input_frames,
        static=set(domain.static) & set(data.inputs),
    )


def _untrained(experiment: Experiment, domain: Domain) -> GraphCast:
    channels, model = _channels(experiment, domain), experiment.model
    return GraphCast.init(
        inputs=channels.input_size,
        outputs=channels.output_size,
        latent_size=model.latent_size,
        message_steps=model.message_steps,
        hidden_layers=model.hidden_layers,
        key=jax.random.key(experiment.training.seed),
        noise=model.noise,
    )
