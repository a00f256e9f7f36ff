"""The experiment: loading, overrides, errors before anything runs, hashes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from graphufs.config import loading
from graphufs.errors import UserError
from graphufs.storage.paths import Paths, digest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def tiny(*overrides: str):
    return loading.load(EXPERIMENTS / "tiny.yaml", overrides)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_experiment_loads_round_trips_and_fits_the_schema(path):
    experiment = loading.load(path)
    assert loading.parse(loading.dump(experiment)) == experiment
    jsonschema.validate(yaml.safe_load(loading.dump(experiment)), json.loads(loading.json_schema()))
    assert len(experiment.initial_times) >= 10


def test_p0_is_the_published_prototype():
    p0 = loading.load(EXPERIMENTS / "p0.yaml")
    assert p0.model.model_dump() == {
        "mesh_size": 2,
        "latent_size": 256,
        "message_steps": 4,
        "hidden_layers": 1,
        "radius_fraction": 0.6,
        "mesh2grid_normalization": 0.6180338738074472,
        "kernels": "auto",
        "noise": 0,
        "mesh2grid_ties": "own",
    }
    assert p0.training.batch_size == 16
    assert p0.training.optimizer.model_dump() == {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "clip": 32.0}
    assert str(p0.statistics_period) == "1993-12-31T18..1997-12-31T18"
    assert [period.start.year for period in (p0.data.training, p0.data.evaluation, p0.data.validation)] == [
        1994,
        1995,
        1996,
    ]


def test_the_curriculum_is_the_published_one():
    training = loading.load(EXPERIMENTS / "graphcast_curriculum.yaml").training
    first, *others = training.stages
    assert first.updates == 300_000 and first.rollout == 1
    assert first.learning_rate.model_dump() == {
        "schedule": "cosine", "peak": 1e-3, "start": 0.0, "end": 0.0, "warmup_updates": 1000,
    }  # fmt: skip
    assert [stage.rollout for stage in others] == list(range(2, 13))
    assert {(stage.updates, stage.learning_rate.schedule, stage.learning_rate.peak) for stage in others} == {
        (1000, "constant", 3e-7)
    }
    assert training.batch_size == 32


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("forecast.checkpoint=best", "without training.validation_forecasts none is known"),
        (
            "training.validation_forecasts={every: 5, lead_time: 4h}",
            "lead_time of 4h is not a multiple of data.time_step",
        ),
        ("training.validation_forecasts={every: 5, lead_time: 20d}", "shorter than the 486h of one of the"),
        ("training.loss.channel_weights={tmp: {850: 2.0}}", "channel_weights.tmp names level 850; data.levels has 500"),
        ("training.loss.channel_weights={spfh: {500: 2.0}}", "channel_weights names spfh, no target"),
        ("training.loss.channel_weights={tmp: {500: -1}}", "greater than or equal to 0"),
        (
            "training.compute={device_batch_size: 3}",
            "not a multiple of compute.device_batch_size x the groups of devices that share it, 3",
        ),
        ("training.compute.precision=float16", "'float32' or 'bfloat16'"),
        ("training.average=1.0", "less than 1"),
        ("data.transforms={spfh: {}}", "data.transforms names spfh, which is not a variable read from the store"),
        ("training.stages.0.name=a/b", "should match pattern"),
        ("data.time_stepp=6h", "data.time_stepp: unknown key (did you mean data.time_step?)"),
        ("trianing.batch_size=3", "trianing: unknown key (did you mean training?)"),
        ("batch_size=4", "batch_size: unknown key (did you mean training.batch_size?)"),
        ("training.stages.0.update=4", "did you mean training.stages.updates?"),
        ("forecast.lead_time=7h", "forecast.lead_time of 7h is not a multiple of data.time_step, 6h"),
        ("data.evaluation.start=1994-01-08", "overlaps the evaluation period"),
        ("data.training.start=1994-13-01", "'1994-13-01' is not a time"),
        ("data.training.start=1994-01-01T03", "not a whole number of 6h steps"),
        ("data.training.end=1994-01-01T12", "holds 0 samples"),
        ("data.training.end=1993-01-01", "must come after the start"),
        ("forecast.lead_time=10d", "too short for a single forecast"),
        ("training.batch_size=0", "greater than or equal to 1 (got 0)"),
        ("training.stages.5.updates=3", "training.stages is a list of 2"),
        ("training.batch_size.x=3", "training.batch_size is a value, not a section"),
        ("training.batch_size", "write it as section.key=value"),
        ("data.targets=[pressfc, dswrf_avetoa]", "dswrf_avetoa cannot be both a target and a forcing"),
        ("data.levels=[500, 500]", "data.levels names 500.0 more than once"),
        ("training.loss.variable_weights={tmp2m: 1}", "tmp2m, no target"),
        ("data.training.start=1994-01-01T00+02:00", "names a time zone"),
    ],
)
def test_bad_input_is_refused_by_name(override, message):
    with pytest.raises(UserError) as caught:
        tiny(override)
    assert message in str(caught.value)


def test_overlapping_periods_are_accepted_when_the_experiment_says_so():
    overlap = "data.validation.end=1994-01-14"
    with pytest.raises(UserError, match="adding validation to data.allow_overlap"):
        tiny(overlap)
    assert tiny(overlap, "data.allow_overlap=[validation]").data.validation.end.day == 14


def test_a_key_given_twice_is_refused():
    with pytest.raises(UserError, match="line 2: the key 'name' is given twice"):
        loading.parse("name: a\nname: b\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nothere.yaml: No such file"):
        loading.load(tmp_path / "nothere.yaml")


def test_initial_times_leave_room_for_input_frames_and_leads():
    experiment = tiny()
    assert str(experiment.initial_times[0]) == "1994-01-13 06:00:00"
    assert str(experiment.initial_times[-1]) == "1994-01-17 18:00:00"


def test_hashes_change_with_what_determines_the_content_and_with_nothing_else(tmp_path):
    def hashes(*overrides):
        return Paths(tiny(*overrides), tmp_path).hashes

    base = hashes()
    changed = {
        override: sorted(name for name, value in hashes(override).items() if value != base[name])
        for override in (
            "data.levels=[100, 500]",
            "data.training.end=1994-01-10T12",
            "normalization.weights=area",
            "normalization.weights=volume",
            "training.seed=3",
            "forecast.every=6h",
            "evaluation.climatology_window=7",
            "description=other words",
            "data.source.world.seed=4",
            "data.transforms={tmp: {}}",
            "training.average=0.99",
            "training.compute.precision=bfloat16",
            "training.compute={devices: 2, rematerialize: everything, deterministic: true}",
            "training.checkpoint_minutes=3",
            "training.tracking.mlflow=true",
        )
    }
    everything = ["climatology", "data", "forecasts", "run", "scores", "statistics"]
    assert changed == {
        "data.levels=[100, 500]": everything,
        "data.training.end=1994-01-10T12": ["climatology", "forecasts", "run", "scores"],
        "normalization.weights=area": ["forecasts", "run", "scores", "statistics"],
        "normalization.weights=volume": everything,
        "training.seed=3": ["forecasts", "run", "scores"],
        "forecast.every=6h": ["forecasts", "scores"],
        "evaluation.climatology_window=7": ["climatology", "scores"],
        "description=other words": [],
        "data.source.world.seed=4": [*everything, "world"],
        "data.transforms={tmp: {}}": ["forecasts", "run", "scores", "statistics"],
        "training.average=0.99": ["forecasts", "run", "scores"],
        "training.compute.precision=bfloat16": ["forecasts", "run", "scores"],
        "training.compute={devices: 2, rematerialize: everything, deterministic: true}": [],
        "training.checkpoint_minutes=3": [],
        "training.tracking.mlflow=true": [],
    }


SEED = "runs/tiny/0123456789ab/checkpoints/00000016"
CRPS = "training.stages.0.loss={kind: crps}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([CRPS], "stage 'one-step' has the loss crps, of members that noise makes, but the model has none"),
        (["model.noise=32"], "model.noise is 32, but no stage learns what to do with it"),
        (["forecast.members=4"], "forecast.members is 4, but without noise all members are the same"),
        (["forecast.keep_members=false"], "forecast.keep_members is false, but there is one member"),
        ([f"forecast.checkpoints=[{SEED}]"], "forecast.members is 1, fewer than the 2 models"),
        (["retraining.metric=crps"], "retraining.metric is crps, a score of members, but forecast.members is 1"),
        (["forecast.members=3", f"forecast.checkpoints=[{SEED}]"], "all members of each of 2 checkpoints are the same"),
        (["forecast.members=2", "forecast.checkpoints=[elsewhere/1]"], "checkpoints.0"),
        (
            ["training.stages.0.loss={kind: mae, members: 4}"],
            "loss.members, alpha, smoothed_weight and smoothed_points",
        ),
        ([CRPS, "model.noise=32", "training.stages.0.loss.members=1"], "greater than or equal to 2"),
        (["training.stages.0.loss={kind: crsp}"], "should be 'mse', 'mae' or 'crps'"),
        (["training.stages.0.loss={member: 2}"], "did you mean training.stages.loss.members"),
    ],
)
def test_an_ensemble_that_cannot_be_one_is_refused_by_name(overrides, message):
    with pytest.raises(UserError, match=message):
        tiny(*overrides)


def test_shipped_ensembles_go_on_from_the_last_checkpoint_of_the_experiment_they_are_made_of(tmp_path):
    for name, ensemble, update in (("demo_hourly", "demo_ensemble", 3200), ("p0", "p0_ensemble", 91)):
        one, other = (loading.load(EXPERIMENTS / f"{file}.yaml") for file in (name, ensemble))
        last = Paths(one, tmp_path).checkpoints / f"{update:08d}"
        assert Paths(other, tmp_path).initial_weights == last
        assert Paths(other, tmp_path).data == Paths(one, tmp_path).data
        assert other.model.model_copy(update={"noise": 0}) == one.model and other.data == one.data
    assert Paths(tiny(), tmp_path).initial_weights is None
    assert Paths(tiny("training.init_from=weights/1"), tmp_path).initial_weights == Path("weights/1")


def test_the_checkpoint_an_ensemble_goes_on_from_is_found_under_the_names_that_earlier_versions_gave_its_run(tmp_path):
    hourly, ensemble = (loading.load(EXPERIMENTS / f"{name}.yaml") for name in ("demo_hourly", "demo_ensemble"))
    paths = Paths(ensemble, tmp_path)
    assert paths.initial_weights == Paths(hourly, tmp_path).checkpoints / "00003200"
    now = paths.hashes["run"]
    former = digest(Paths(hourly, tmp_path)._run(former=True))
    for run in (former, Paths(hourly, tmp_path).hashes["run"]):  # of 0.1.0, and of 0.2.0
        folder = tmp_path / "runs" / "demo" / run
        folder.mkdir(parents=True)
        assert paths.initial_weights == folder / "checkpoints" / "00003200"
        assert Paths(ensemble, tmp_path).hashes["run"] == now
    other = loading.load(
        EXPERIMENTS / "demo_ensemble.yaml", ["training.init_from=runs/demo/0123456789ab/checkpoints/00000001"]
    )
    assert Paths(other, tmp_path).initial_weights == tmp_path / "runs/demo/0123456789ab/checkpoints/00000001"


def test_the_control_plane_modules_import_no_array_library():
    code = (
        "import sys, graphufs, graphufs.config.experiment, graphufs.config.loading, graphufs.storage.paths, "
        "graphufs.steps, graphufs.registry.registry, graphufs.cli.main; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'jax', 'xarray', 'numpy', 'zarr', 'dask'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
