"""The `training` section of an experiment."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from graphufs.config.base import MOST_COUNT, MOST_NAMES, MOST_SEEDS, MOST_TIMES, Hours, Section
from graphufs.config.credentials import Address
from graphufs.config.identity import KEPT_AND_TOLD, PERMISSION, ROUNDING, Later, NotIdentity

LARGEST = 1e6
"""Of weights and factors; with larger ones the numbers of a training leave those that float32 knows."""
OF_UPDATES = (
    "augmentation", "average", "init_partial", "init_optimizer", "freeze", "learning_rate_factors",
    "validation_forecasts",
)  # fmt: skip
"""Keys that say something of updates alone, or let the model be another than that of init_from."""
Diagnostic = Literal["wind_speed", "10m_wind_speed", "hydrostatic_thickness", "hydrostatic_balance"]
"""Keys of graphufs.vocabulary.loss_diagnostics."""
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Weight = Annotated[float, Field(ge=0, le=LARGEST)]


class LearningRate(Section):
    """The learning rate over the updates of a stage."""

    ALWAYS_HASHED = "schedule peak start end warmup_updates"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """`linear` runs from start to peak over the whole stage; `cosine` warms up, then falls to end."""
    peak: float = Field(1e-3, gt=0)
    """The highest rate of the stage, or its only one."""
    start: float = Field(0.0, ge=0)
    end: float = Field(0.0, ge=0)
    warmup_updates: int = Field(0, ge=0, le=MOST_COUNT)


class Optimizer(Section):
    """AdamW with clipping by the gradient's global norm."""

    ALWAYS_HASHED = "b1 b2 eps weight_decay clip"
    b1: float = Field(0.9, ge=0, lt=1)
    b2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    clip: float | None = Field(32.0, gt=0)


class StageLoss(Section):
    """What a stage makes small: a mean of squared or absolute errors, or a score of ensembles."""

    kind: Literal["mse", "mae", "crps"] = "mse"
    """`crps` is the continuous ranked probability score of members that noise makes; the others know no noise."""
    members: int = Field(2, ge=2, le=64)
    """Of the ensemble that each sample has, for crps."""
    alpha: float = Field(1.0, ge=0, le=1)
    """1 is the fair score, whose best spread is the true one; 0 the biased; between, the almost fair one."""
    smoothed_weight: Annotated[float, Later()] = Field(0.0, ge=0, le=100)
    """Of a second term for crps: the same score of the means over neighbourhoods of the grid. It asks that errors of
    neighbours go together as they do in truth, which the score point by point does not see."""
    smoothed_points: Annotated[int, Later()] = Field(4, ge=2, le=1000)
    """Grid points along each side of such a neighbourhood."""

    @property
    def members_at_once(self) -> int:
        """Of each sample: one where the loss is of single forecasts."""
        return self.members if self.kind == "crps" else 1

    @model_validator(mode="after")
    def _for_ensembles(self) -> Self:
        of_crps = StageLoss.model_fields.keys() - {"kind"}
        if self.kind != "crps" and any(getattr(self, key) != StageLoss.model_fields[key].default for key in of_crps):
            raise ValueError(
                "loss.members, alpha, smoothed_weight and smoothed_points are of the kind crps, and this loss is "
                f"{self.kind}; leave them out or make it crps"
            )
        return self


class Stage(Section):
    """A part of the training with its own length, rollout, learning rate and optimizer."""

    ALWAYS_HASHED = "updates epochs rollout learning_rate optimizer"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)
    updates: int | None = Field(None, ge=1, le=MOST_COUNT)
    """The stage's length; or its epochs."""
    epochs: int | None = Field(None, ge=1, le=MOST_COUNT)
    rollout: int = Field(1, ge=1, le=10_000)
    """Autoregressive steps the loss is averaged over."""
    learning_rate: LearningRate = LearningRate()
    optimizer: Optimizer | None = None
    """The optimizer of this stage; where not given, that of the training. Its moments go on from stage to stage."""
    loss: Annotated[StageLoss, Later()] = StageLoss()
    """What is made small; training.loss has the weights."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.updates is None) == (self.epochs is None):
            raise ValueError(f"stage {self.name!r} needs either updates or epochs")
        if self.updates and self.learning_rate.warmup_updates > self.updates:
            raise ValueError(f"stage {self.name!r} warms up for longer than its {self.updates} updates")
        return self


class Loss(Section):
    """Weights of the errors of normalised targets, of whatever kind of loss."""

    ALWAYS_HASHED = "latitude_weights level_weights variable_weights channel_weights"
    latitude_weights: bool = True
    level_weights: bool = True
    """Proportional to pressure."""
    variable_weights: dict[str, Weight] = {}
    """Weights by target; the others count 1."""
    channel_weights: dict[str, dict[float, Weight]] = {}
    """Further factors by target and wanted level, as in {tmp: {500: 2.0}}; the others count 1."""
    diagnostics: Annotated[tuple[Diagnostic, ...], Later()] = ()
    """What is made of targets and counts as they do, each weighing 1 unless variable_weights has it."""


class Divergence(Section):
    """When a loss counts as diverged, and what is done then."""

    ALWAYS_HASHED = "factor window rollbacks rate_factor"
    factor: float | None = Field(10.0, gt=1)
    """A loss above this many times the median of the last ones has diverged; null looks for NaN and infinity only."""
    window: int = Field(100, ge=5, le=1_000_000)
    """How many losses, of the same stage, the median is taken over; until there are as many, nothing has diverged."""
    rollbacks: int = Field(0, ge=0, le=10)
    """How often training goes back to its last checkpoint by itself, with a lower rate; 0 stops at once."""
    rate_factor: float = Field(0.5, gt=0, lt=1)
    """What all later learning rates are multiplied by at each rollback."""


class Augmentation(Section):
    """Symmetries of the globe that the samples of a training are moved by, at random: for data of few weeks."""

    rotate_longitude: bool = False
    """Turn each sample about the axis, by any number of grid points; forcings and static inputs turn with it."""
    mirror: bool = False
    """Mirror every other sample at the equator; northward components and vorticity change their sign."""

    @property
    def asked(self) -> bool:
        """Whether anything is moved at all."""
        return self.rotate_longitude or self.mirror


class ValidationForecasts(Section):
    """Short forecasts over the validation period, made and scored while training."""

    ALWAYS_HASHED = "initial_times lead_time"
    every: int = Field(ge=1, le=MOST_COUNT)
    """Updates between two sets of forecasts; one more is made at the end of each stage."""
    initial_times: int = Field(8, ge=1, le=MOST_TIMES)
    """How many, spread evenly over the validation period."""
    lead_time: Hours = 72


class DeviceMesh(Section):
    """How devices, all of them, are arranged: some share the samples of a batch, and some each sample."""

    batch: int | None = Field(None, ge=1, le=1_000_000)
    """Groups of devices that share a batch; where not given, as many as there are."""
    space: int = Field(1, ge=1, le=4096)
    """Devices of each group, which share every sample: each has a part of the grid and of the mesh, and tells the
    others about the mesh nodes that they need."""


class Compute(Section):
    """How an update is computed. But for the precision, nothing here changes what is learnt beyond rounding."""

    ALWAYS_HASHED = "precision"
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's activations. Parameters, statistics and loss are float32 always."""
    rematerialize: Annotated[Literal["auto", "nothing", "steps", "blocks", "everything"], NotIdentity(ROUNDING)] = (
        "auto"
    )
    """What is computed again for the gradient instead of kept: each step of a rollout, each block of grid points, both
    or nothing. `auto` does what is fastest on a CPU; elsewhere, what long rollouts need."""
    device_batch_size: Annotated[int | None, NotIdentity(ROUNDING)] = Field(None, ge=1, le=1_000_000)
    """Samples a device computes at once; the rest of the batch follows, gradients summed. Where not given, one on a
    CPU, elsewhere the most that fit the memory."""
    devices: Annotated[int | None, NotIdentity(ROUNDING)] = Field(None, ge=1, le=1_000_000)
    """Devices of this machine that share a batch; where not given, as many as divide it."""
    mesh: Annotated[DeviceMesh, NotIdentity(ROUNDING), Later()] = DeviceMesh()
    """What the devices of all processes share: batch x space is their number."""
    shard_optimizer: Annotated[bool, NotIdentity(ROUNDING), Later()] = False
    """Whether the optimizer's moments, twice the memory of the parameters, are divided over all devices. What each
    device then finds for its part is exchanged once an update."""
    members_in_turn: Annotated[bool, NotIdentity(ROUNDING), Later()] = False
    """Whether the members of an ensemble follow each other, each computed again for the gradient: the memory is that of
    one, for a third more time. Else they are computed together, as so many more samples."""
    deterministic: Annotated[bool, NotIdentity(ROUNDING)] = False
    """Only operations that give the same bits each time, on a GPU too (slower there)."""


class Tracking(Section):
    """Where metrics go besides metrics.jsonl."""

    mlflow: bool = False
    """Log to MLflow: the server MLFLOW_TRACKING_URI names, else the folder ROOT/mlflow."""
    experiment: str | None = None
    """The name of the MLflow experiment; where not given, this experiment's."""


class Training(Section):
    """How the network is trained."""

    ALWAYS_HASHED = "seed batch_size optimizer loss average init_from divergence compute validation_forecasts"
    seed: int = Field(0, ge=0, le=MOST_SEEDS)
    """Of the initial parameters and of the order of the samples."""
    batch_size: int = Field(16, ge=1, le=1_000_000)
    """Samples of one update, over all devices: device_batch_size x accumulation x devices."""
    stages: Annotated[tuple[Stage, ...], Field(max_length=MOST_NAMES)]
    """One after the other. With none, nothing is trained: the model is that of init_from, as it is."""
    optimizer: Optimizer = Optimizer()
    loss: Loss = Loss()
    augmentation: Annotated[Augmentation, Later()] = Augmentation()
    """How samples are changed before the network sees them; validation and forecasts see them as they are."""
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of the exponential moving average of the parameters, which validation and forecasts then use."""
    init_from: Address | None = None
    """Weights to start from: a checkpoint folder, or a file in DeepMind's npz format. A path that begins with `runs`
    lies below the root."""
    init_partial: Annotated[bool, NotIdentity(PERMISSION), Later()] = False
    """Inputs and outputs of init_from that this experiment has not may be left behind."""
    init_statistics: Annotated[Literal["new", "source", "rescaled"], Later()] = "new"
    """What scales inputs and targets after init_from. `new` are this experiment's, with the weights as they were;
    `source` are init_from's, of the variables it has; `rescaled` are this experiment's, with the weights of the first
    and the last layer changed so that the first forecast is that of init_from."""
    init_new: Annotated[Literal["random", "zero"], Later()] = "random"
    """The weights of inputs and outputs that init_from has not. Zero ones change nothing of the first forecast."""
    init_optimizer: Annotated[bool, Later()] = False
    """Whether the optimizer goes on with the moments of init_from; else it begins with none."""
    freeze: Annotated[tuple[Pattern, ...], Field(max_length=MOST_NAMES), Later()] = ()
    """Tensors that stay as they are, such as `processor.*`: patterns of their names, where * stands for anything."""
    learning_rate_factors: Annotated[
        dict[Pattern, Annotated[float, Field(gt=0, le=LARGEST)]], Field(max_length=MOST_NAMES), Later()
    ] = {}
    """Factors to the learning rate by patterns of tensors' names, as in {encoder.*: 0.1}. The others have 1; of several
    patterns that a name fits, the last one counts."""
    divergence: Divergence = Divergence()
    compute: Compute = Compute()
    tracking: Annotated[Tracking, NotIdentity(KEPT_AND_TOLD)] = Tracking()
    validate_every: Annotated[int, NotIdentity(KEPT_AND_TOLD, hashed_as=500)] = Field(500, ge=1, le=MOST_COUNT)
    """Updates between two passes over the validation period."""
    validation_forecasts: ValidationForecasts | None = None
    checkpoint_every: Annotated[int, NotIdentity(KEPT_AND_TOLD)] = Field(500, ge=1, le=MOST_COUNT)
    """Updates between two checkpoints."""
    checkpoint_minutes: Annotated[float | None, NotIdentity(KEPT_AND_TOLD)] = Field(15.0, gt=0, le=1_000_000)
    """The longest time between two checkpoints."""
    keep_checkpoints: Annotated[int, NotIdentity(KEPT_AND_TOLD)] = Field(2, ge=1, le=1_000_000)
    """How many of the last are kept. The best and the last of each stage are kept besides."""

    @model_validator(mode="after")
    def _whole_fields(self) -> Self:
        if self.augmentation.asked and self.compute.mesh.space > 1:
            raise ValueError(
                f"augmentation moves whole fields, and compute.mesh.space is {self.compute.mesh.space}, so that no "
                "device has any; leave out one of them"
            )
        return self

    @model_validator(mode="after")
    def _neighbourhoods(self) -> Self:
        if self.compute.mesh.space > 1 and any(stage.loss.smoothed_weight for stage in self.stages):
            raise ValueError(
                f"loss.smoothed_weight asks for means over neighbourhoods, and compute.mesh.space is "
                f"{self.compute.mesh.space}, so that no device has whole ones; leave out one of them"
            )
        return self

    @model_validator(mode="after")
    def _as_it_is(self) -> Self:
        if self.stages:
            return self
        if self.init_from is None or self.init_statistics != "source":
            raise ValueError(
                "stages has none, so that nothing is trained and the model is one that is there: name it by init_from, "
                "with init_statistics: source; or give a stage"
            )
        for key in OF_UPDATES:
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                raise ValueError(f"stages has none, so that {key} would change nothing; leave it out, or give a stage")
        return self

    @model_validator(mode="after")
    def _initial(self) -> Self:
        if self.init_from is None:
            for key in ("init_statistics", "init_new", "init_optimizer"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} is about what init_from has; give init_from, or leave out {key}")
        if self.init_optimizer and self.init_statistics == "rescaled":
            raise ValueError(
                "init_optimizer cannot go with init_statistics: rescaled, since the moments are of other weights; "
                "take init_statistics: source, or leave out init_optimizer"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need different names, got {names}")
        compute, mesh = self.compute, self.compute.mesh
        if compute.devices and max(mesh.space, compute.devices) % min(mesh.space, compute.devices):
            raise ValueError(
                f"compute.mesh.space is {mesh.space} and compute.devices {compute.devices}; one must divide the other"
            )
        groups = mesh.batch or max((compute.devices or 1) // mesh.space, 1)
        part = (compute.device_batch_size or 1) * groups
        if self.batch_size % part:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of compute.device_batch_size x the groups of devices "
                f"that share it, {part}"
            )
        return self
