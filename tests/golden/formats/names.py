"""How outputs and jobs are named: what `hashes.json` and `schema.json` hold, computed by the code that is here now.

`make.py` wrote the files with it, and the tests compare with it. What is left out of a hash is found by trying: each
key of an experiment is given another value (`OTHER`), and the hashes say which of them take notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.retraining.decide import evidence_file
from graphufs.steps import STEPS
from graphufs.storage.paths import Paths, digest
from jobs.airflow.keys import job_key
from jobs.job.folder import default_key
from jobs.site import Resources, Site

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
SHIPPED = ("demo", "graphcast_curriculum", "p0", "tiny")
DEMO = ("name=demo", "description=A small emulator of the embedded idealised world")
CHECKPOINT, CHAMPION = "00000016", "tiny-0123456789ab-16"
BOTH_TRUTHS = ("evaluation.truth=both", "evaluation.era5.url=gs://bucket/era5.zarr")
SITES = ("local", "cluster")
ADDED_STEPS = {"publish"}
PLACES = ("world", "data", "moments", "climatology", "run", "checkpoints", "metrics", "forecasts", "scores", "report")

PERIOD = "{start: 1994-01-01T00, end: 1994-01-10T18}"
LATER = "{start: 1994-01-13T00, end: 1994-01-18T18}"
AGAINST = "evaluation.era5.url=gs://bucket/era5.zarr"
FORECASTS = "training.validation_forecasts={every: 5, lead_time: 6h}"
OWN_OPTIMIZER = "training.stages.0.optimizer={}"
WEIGHTS = "training.init_from=weights/00000016"
ONE_EPOCH = "training.stages.0={name: one-step, epochs: 1}"
ENSEMBLE = ("model.noise=32", "training.stages.0.loss={kind: crps}")
OTHER_SEED = "runs/tiny/0123456789ab/checkpoints/00000016"
NAMED_SCORE = "retraining.scores=[{variable: tmp, level: 500, lead: 24h}]"
OTHER: dict[str, tuple[str, ...]] = {
    # by key: overrides of tiny, the last of which is the change; the others make room for it
    "name": ("name=other",),
    "description": ("description=other words",),
    "data.source.url": ("data.source.url=gs://bucket/store.zarr",),
    "data.source.storage_options": ("data.source.storage_options={token: anon}",),
    "data.source.storage": ("data.source.storage=mine",),
    "data.source.kind": ("data.source.kind=replay",),
    "data.source.component": ("data.source.component=mom6",),
    "data.source.world.seed": ("data.source.world.seed=4",),
    "data.source.world.step": ("data.source.world.step=2h",),
    "data.source.world.stochastic.amplitude": ("data.source.world.stochastic.amplitude=0.5",),
    "data.source.world.stochastic.seed": (
        "data.source.world.stochastic={amplitude: 0.5}",
        "data.source.world.stochastic.seed=1",
    ),
    "data.inputs": ("data.inputs=[pressfc, tmp]",),
    "data.targets": ("data.targets=[tmp]",),
    "data.forcings": ("data.forcings=[dswrf_avetoa]",),
    "data.levels": ("data.levels=[500]",),
    "data.interfaces": ("data.levels=[]", "data.interfaces=[400, 600, 1000]"),
    "data.level_match": ("data.level_match=exact",),
    "data.storage": ("data.storage=int16",),
    "data.time_step": ("data.time_step=12h",),
    "data.input_frames": ("data.input_frames=1",),
    "data.transforms.*.function": ("data.transforms={tmp: {}}",),  # there is one function: with it, and without
    "data.transforms.*.floor": ("data.transforms={tmp: {}}", "data.transforms={tmp: {floor: 1.0e-8}}"),
    "data.tisr_period": ("data.tisr_period=3h",),
    "data.training.start": ("data.training.start=1994-01-02T00",),
    "data.training.end": ("data.training.end=1994-01-10T12",),
    "data.validation.start": ("data.validation.start=1994-01-11T06",),
    "data.validation.end": ("data.validation.end=1994-01-12T12",),
    "data.evaluation.start": ("data.evaluation.start=1994-01-13T06",),
    "data.evaluation.end": ("data.evaluation.end=1994-01-17T18",),
    "data.allow_overlap": ("data.allow_overlap=[validation]",),
    "data.region": ("data.region=limited",),
    "data.accept_implausible": ("data.accept_implausible=[tmp]",),
    "normalization.period.start": (f"normalization.period={PERIOD}", "normalization.period.start=1994-01-02T00"),
    "normalization.period.end": (f"normalization.period={PERIOD}", "normalization.period.end=1994-01-09T18"),
    "normalization.weights": ("normalization.weights=area",),
    "normalization.url": ("normalization.url=gs://bucket/statistics",),
    "normalization.storage_options": ("normalization.storage_options={token: anon}",),
    "normalization.storage": ("normalization.storage=mine",),
    "normalization.dask": ("normalization.dask=tcp://host:8786",),
    "model.mesh_size": ("model.mesh_size=2",),
    "model.latent_size": ("model.latent_size=16",),
    "model.message_steps": ("model.message_steps=3",),
    "model.hidden_layers": ("model.hidden_layers=2",),
    "model.radius_fraction": ("model.radius_fraction=0.7",),
    "model.mesh2grid_normalization": ("model.mesh2grid_normalization=null",),
    "model.mesh2grid_ties": ("model.mesh2grid_ties=reference",),
    "model.kernels": ("model.kernels=xla",),
    "model.noise": (*ENSEMBLE, "model.noise=16"),
    "training.seed": ("training.seed=3",),
    "training.batch_size": ("training.batch_size=4",),
    "training.stages.0.name": ("training.stages.0.name=other",),
    "training.stages.0.updates": ("training.stages.0.updates=13",),
    "training.stages.0.epochs": (ONE_EPOCH, "training.stages.0.epochs=2"),
    "training.stages.0.rollout": ("training.stages.0.rollout=2",),
    "training.stages.0.learning_rate.schedule": ("training.stages.0.learning_rate.schedule=linear",),
    "training.stages.0.learning_rate.peak": ("training.stages.0.learning_rate.peak=2.0e-3",),
    "training.stages.0.learning_rate.start": ("training.stages.0.learning_rate.start=1.0e-5",),
    "training.stages.0.learning_rate.end": ("training.stages.0.learning_rate.end=1.0e-5",),
    "training.stages.0.learning_rate.warmup_updates": ("training.stages.0.learning_rate.warmup_updates=3",),
    "training.stages.0.optimizer.b1": (OWN_OPTIMIZER, "training.stages.0.optimizer.b1=0.8"),
    "training.stages.0.optimizer.b2": (OWN_OPTIMIZER, "training.stages.0.optimizer.b2=0.9"),
    "training.stages.0.optimizer.eps": (OWN_OPTIMIZER, "training.stages.0.optimizer.eps=1.0e-7"),
    "training.stages.0.optimizer.weight_decay": (OWN_OPTIMIZER, "training.stages.0.optimizer.weight_decay=0.2"),
    "training.stages.0.optimizer.clip": (OWN_OPTIMIZER, "training.stages.0.optimizer.clip=1.0"),
    "training.stages.0.loss.kind": ("training.stages.0.loss.kind=mae",),
    "training.stages.0.loss.members": (*ENSEMBLE, "training.stages.0.loss.members=3"),
    "training.stages.0.loss.alpha": (*ENSEMBLE, "training.stages.0.loss.alpha=0.95"),
    "training.stages.0.loss.smoothed_weight": (*ENSEMBLE, "training.stages.0.loss.smoothed_weight=0.1"),
    "training.stages.0.loss.smoothed_points": (*ENSEMBLE, "training.stages.0.loss.smoothed_points=8"),
    "training.optimizer.b1": ("training.optimizer.b1=0.8",),
    "training.optimizer.b2": ("training.optimizer.b2=0.9",),
    "training.optimizer.eps": ("training.optimizer.eps=1.0e-7",),
    "training.optimizer.weight_decay": ("training.optimizer.weight_decay=0.2",),
    "training.optimizer.clip": ("training.optimizer.clip=1.0",),
    "training.loss.latitude_weights": ("training.loss.latitude_weights=false",),
    "training.loss.level_weights": ("training.loss.level_weights=false",),
    "training.loss.variable_weights": ("training.loss.variable_weights={tmp: 2.0}",),
    "training.loss.channel_weights": ("training.loss.channel_weights={tmp: {500: 2.0}}",),
    "training.loss.diagnostics": (
        "data.targets=[pressfc, tmp, ugrd10m, vgrd10m]",
        "training.loss.diagnostics=[10m_wind_speed]",
    ),
    "training.augmentation.rotate_longitude": ("training.augmentation.rotate_longitude=true",),
    "training.augmentation.mirror": ("training.augmentation.mirror=true",),
    "training.average": ("training.average=0.99",),
    "training.init_partial": ("training.init_partial=true",),
    "training.init_statistics": (WEIGHTS, "training.init_statistics=source"),
    "training.init_new": (WEIGHTS, "training.init_new=zero"),
    "training.init_optimizer": (WEIGHTS, "training.init_optimizer=true"),
    "training.freeze": ("training.freeze=[processor.*]",),
    "training.learning_rate_factors": ("training.learning_rate_factors={encoder.*: 0.1}",),
    "training.init_from": (WEIGHTS,),
    "training.divergence.factor": ("training.divergence.factor=5.0",),
    "training.divergence.window": ("training.divergence.window=50",),
    "training.divergence.rollbacks": ("training.divergence.rollbacks=1",),
    "training.divergence.rate_factor": ("training.divergence.rate_factor=0.25",),
    "training.compute.precision": ("training.compute.precision=bfloat16",),
    "training.compute.rematerialize": ("training.compute.rematerialize=everything",),
    "training.compute.device_batch_size": ("training.compute.device_batch_size=2",),
    "training.compute.devices": ("training.compute.devices=2",),
    "training.compute.members_in_turn": ("training.compute.members_in_turn=true",),
    "training.compute.mesh.batch": ("training.compute.mesh.batch=2",),
    "training.compute.mesh.space": ("training.compute.mesh.space=2",),
    "training.compute.shard_optimizer": ("training.compute.shard_optimizer=true",),
    "training.compute.deterministic": ("training.compute.deterministic=true",),
    "training.tracking.mlflow": ("training.tracking.mlflow=true",),
    "training.tracking.experiment": ("training.tracking.experiment=other",),
    "training.validate_every": ("training.validate_every=4",),
    "training.validation_forecasts.every": (FORECASTS, "training.validation_forecasts.every=6"),
    "training.validation_forecasts.initial_times": (FORECASTS, "training.validation_forecasts.initial_times=2"),
    "training.validation_forecasts.lead_time": (FORECASTS, "training.validation_forecasts.lead_time=12h"),
    "training.checkpoint_every": ("training.checkpoint_every=3",),
    "training.checkpoint_minutes": ("training.checkpoint_minutes=3.0",),
    "training.keep_checkpoints": ("training.keep_checkpoints=1",),
    "forecast.period.start": (f"forecast.period={LATER}", "forecast.period.start=1994-01-13T06"),
    "forecast.period.end": (f"forecast.period={LATER}", "forecast.period.end=1994-01-17T18"),
    "forecast.every": ("forecast.every=6h",),
    "forecast.initial_times": ("forecast.initial_times=[1994-01-13T06]",),
    "forecast.lead_time": ("forecast.lead_time=12h",),
    "forecast.batch_size": ("forecast.batch_size=2",),
    "forecast.members": (*ENSEMBLE, "forecast.members=3"),
    "forecast.keep_members": (*ENSEMBLE, "forecast.members=3", "forecast.keep_members=false"),
    "forecast.checkpoints": (*ENSEMBLE, "forecast.members=3", f"forecast.checkpoints=[{OTHER_SEED}]"),
    "forecast.products": ("forecast.products=[netcdf]",),
    "forecast.products_grid": ("forecast.products_grid=360x181",),
    "forecast.checkpoint": (FORECASTS, "forecast.checkpoint=best"),
    "evaluation.truth": (AGAINST, "evaluation.truth=era5"),
    "evaluation.era5.url": (AGAINST,),
    "evaluation.era5.storage_options": ("evaluation.era5.storage_options={token: anon}",),
    "evaluation.era5.storage": ("evaluation.era5.storage=mine",),
    "evaluation.era5.climatology": ("evaluation.era5.climatology=gs://bucket/climatology.zarr",),
    "evaluation.era5.native_layers": ("evaluation.era5.native_layers=leave_out",),
    "evaluation.climatology.start": (f"evaluation.climatology={PERIOD}", "evaluation.climatology.start=1994-01-02T00"),
    "evaluation.climatology.end": (f"evaluation.climatology={PERIOD}", "evaluation.climatology.end=1994-01-09T18"),
    "evaluation.climatology_window": ("evaluation.climatology_window=7",),
    "evaluation.regions": ("evaluation.regions=[tropics]",),
    "evaluation.grid": ("evaluation.grid=16x8",),
    "evaluation.regridding": ("evaluation.regridding=bilinear",),
    "evaluation.convention": ("evaluation.convention=WeatherBench-X",),
    "evaluation.skipna": ("evaluation.skipna=true",),
    "evaluation.derived": ("data.targets=[pressfc, tmp, ugrd10m, vgrd10m]", "evaluation.derived=[10m_wind_speed]"),
    "evaluation.vectors": ("evaluation.vectors=true",),
    "evaluation.map_leads": ("evaluation.map_leads=[]",),
    "evaluation.plume_points": ("evaluation.plume_points=[[52.5, 13.4]]",),
    "evaluation.dask": ("evaluation.dask=tcp://host:8786",),
    "nightly.at_most": ("nightly.at_most=2",),
    "nightly.until": ("nightly.until=1994-02-28T18",),
    "nightly.days_per_night": ("nightly.days_per_night=2",),
    "retraining.training_days": ("retraining.training_days=30",),
    "retraining.validation_days": ("retraining.validation_days=3",),
    "retraining.new_days": ("retraining.new_days=3",),
    "retraining.comparison_times": ("retraining.comparison_times=12",),
    "retraining.warm_start": ("retraining.warm_start=false",),
    "retraining.scores.0.variable": (NAMED_SCORE, "retraining.scores.0={variable: pressfc, lead: 24h}"),
    "retraining.scores.0.level": (NAMED_SCORE, "retraining.scores.0.level=1000"),
    "retraining.scores.0.lead": (NAMED_SCORE, "retraining.scores.0.lead=12h"),
    "retraining.metric": ("retraining.metric=mse",),
    "retraining.level": ("retraining.level=0.01",),
    "retraining.worse_by_at_most": ("retraining.worse_by_at_most=0.1",),
    "retraining.then": ("retraining.then=promote",),
    "retraining.stability.margin": ("retraining.stability.margin=2.0",),
    "retraining.stability.spectrum": ("retraining.stability.spectrum=20.0",),
}
"""Another value for each key that an experiment has."""
MOVED: dict[str, tuple[str, ...]] = {
    "nightly.model": ("nightly.model=latest",),
    "nightly.night": ("nightly.night=2026-01-01",),
    "retraining.champion": ("retraining.champion=tiny-0123456789ab-16",),
    "retraining.answer": ("retraining.answer=hold",),
    "retraining.decided_by": ("retraining.decided_by=somebody",),
    "retraining.why": ("retraining.why=because",),
    "retraining.rollback_to": ("retraining.rollback_to=tiny-0123456789ab-16",),
    "retraining.cost": ("retraining.cost={gpu_hours: 1.0}",),
}
"""Another value for each key that an experiment had in 0.1.0 and that is part of a request now."""

TASKS: tuple[tuple[str, str, str, int, str], ...] = (
    ("training", "manual__2026-01-01T00:00:00+00:00", "train", -1, ""),
    ("training", "manual__2026-01-01T00:00:00+00:00", "train", -1, "one of two Airflows"),
    ("nightly_evaluation", "scheduled__2026-01-01T03:00:00+00:00", "evaluate", 12, ""),
    ("retraining", "a run's name; with signs, " + "x" * 200, "compare_models", 0, "Grüße"),
)
"""Tasks of Airflow: DAG, run, task, map index and the name of the Airflow."""


def shipped(name: str, *overrides: str) -> Experiment:
    """A shipped experiment, as version 0.1.0 shipped it: what was its demo is `demo_hourly` now."""
    file, own = ("demo_hourly", DEMO) if name == "demo" else (name, ())
    return loading.load(EXPERIMENTS / f"{file}.yaml", [*own, *overrides])


def made_by_0_1_0(experiment: Experiment, root: Path) -> Paths:
    """Where the outputs lie in a root in which version 0.1.0 trained and scored the experiment."""
    paths = Paths(experiment, root)
    run = paths.run.with_name(digest(paths._run(former=True)))
    run.mkdir(parents=True, exist_ok=True)
    paths = Paths(experiment, root)
    scores = digest(paths._scores(paths.hashes["forecasts"], former=True))
    (run / "scores" / f"{scores}.zarr").mkdir(parents=True, exist_ok=True)
    return Paths(experiment, root)


def outputs(paths: Paths) -> dict[str, str]:
    """Where each output lies below the root, by name."""
    experiment = paths.experiment
    places = {name: getattr(paths, name) for name in PLACES}
    places |= {"statistics": paths.statistics(), "nightly": paths.nightly(CHECKPOINT)}
    places |= {f"scores against {truth}": paths.scores_against(truth) for truth in experiment.evaluation.truths}
    places["comparison"] = evidence_file(paths, CHAMPION)
    return {name: place.relative_to(paths.root).as_posix() for name, place in sorted(places.items())}


def changes(
    paths: Callable[[Experiment, Path], Paths], root: Path, others: Mapping[str, tuple[str, ...]] = OTHER
) -> dict[str, dict[str, str]]:
    """For each key, the hashes of tiny that another value of it changes, and what they are then."""
    found = {}
    for key, overrides in others.items():
        before, after = (paths(shipped("tiny", *some), root).hashes for some in (overrides[:-1], overrides))
        found[key] = {name: value for name, value in after.items() if value != before[name]}
    return found


def keys() -> list[str]:
    """All keys of an experiment, as in `training.stages.0.updates`; `*` stands for the name of a variable."""
    schema = Experiment.model_json_schema()
    return sorted(_leaves(schema, schema.get("$defs", {}), ()))


def _leaves(schema: Mapping[str, Any], definitions: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    several = [one for one in schema.get("anyOf", (schema,)) if one.get("type") != "null"]
    place = several[0] if len(several) == 1 else schema
    if "$ref" in place:
        place = definitions[place["$ref"].rpartition("/")[2]]
    parts: dict[str, Any] = dict(place.get("properties", {}))
    for part, inside in (("0", place.get("items")), ("*", place.get("additionalProperties"))):
        if isinstance(inside, dict) and "$ref" in inside:
            parts[part] = inside
    if not parts:
        yield ".".join(path)
    for part, inside in parts.items():
        yield from _leaves(inside, definitions, (*path, part))


def jobs(experiment: Experiment, root: Path) -> dict[str, dict[str, str]]:
    """By step: the key of a person's job for each site, and the digest of what is to be done that its intent keeps.

    The digest is found by submitting to the debugger, which leaves a job's folder below `root` and runs nothing.
    """
    from jobs import site
    from jobs.submission import submit  # Airflow's environment lacks what they need

    found = {}
    for step in sorted(STEPS.keys() - ADDED_STEPS, key=list(STEPS).index):
        request = submit.Request(step, experiment, "debug", site.load("debug"), root)
        _, status = submit.submit(request)
        named = {name: default_key(step, experiment, name) for name in SITES}
        found[step] = {**named, "debug": status.intent.key, "digest": status.intent.digest}
    return found


def tasks() -> dict[str, str]:
    """The keys of the jobs of Airflow's tasks."""
    return {" | ".join(map(str, task)): job_key(*task[:4], instance=task[4]) for task in TASKS}


def schemas() -> dict[str, Any]:
    """The JSON Schemas: of experiments, of a job's resources, which forms offer too, and of site files.

    Plain ones, without titles and descriptions and with definitions where they are referred to: words and the names of
    classes may change, what is allowed may not.
    """
    found = {}
    for model in (Experiment, Resources, Site):
        schema = model.model_json_schema()
        found[model.__name__.lower()] = _plain(schema, schema.get("$defs", {}))
    return found


def _plain(schema: Any, definitions: Mapping[str, Any], properties: bool = False) -> Any:
    if isinstance(schema, list):
        return [_plain(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **rest}
    words = () if properties else ("$defs", "title", "description")  # a property may have such a name
    return {
        name: value if name == "default" else _plain(value, definitions, name == "properties" and not properties)
        for name, value in schema.items()
        if name not in words
    }
