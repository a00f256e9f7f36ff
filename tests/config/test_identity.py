"""Which keys of an experiment are part of which output's hash, and that a key that is added is part of none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from graphufs.config import loading
from graphufs.config.base import Section
from graphufs.config.data import Data
from graphufs.config.evaluation import Evaluation
from graphufs.config.experiment import Experiment
from graphufs.config.identity import NotIdentity, mark_of
from graphufs.storage.paths import Paths
from tests.golden.formats import names

LEFT_OUT = {
    "words; a name is that of a folder, though, and of models": ("name", "description"),
    "how to reach what is read": (
        "data.source.kind",
        "data.source.storage",
        "data.source.storage_options",
        "evaluation.era5.storage",
        "evaluation.era5.storage_options",
        "normalization.storage",
        "normalization.storage_options",
    ),
    "what a page shows; the page is made anew": ("evaluation.plume_points",),
    "what is made of forecasts when they are done; what is published says what it was made of": (
        "forecast.products",
        "forecast.products_grid",
    ),
    "permission to go on": ("data.accept_implausible", "data.allow_overlap", "data.region", "training.init_partial"),
    "how something is computed, which changes results by rounding at most": (
        "evaluation.dask",
        "model.kernels",
        "normalization.dask",
        "training.compute.deterministic",
        "training.compute.device_batch_size",
        "training.compute.devices",
        "training.compute.members_in_turn",
        "training.compute.mesh.batch",
        "training.compute.mesh.space",
        "training.compute.rematerialize",
        "training.compute.shard_optimizer",
    ),
    "what is kept and told of a training": (
        "training.checkpoint_every",
        "training.checkpoint_minutes",
        "training.keep_checkpoints",
        "training.tracking.experiment",
        "training.tracking.mlflow",
        "training.validate_every",
    ),
    "how nights and rounds are planned and judged; what they plan is named by its own keys": (
        "nightly.at_most",
        "nightly.days_per_night",
        "nightly.until",
        "retraining.comparison_times",
        "retraining.level",
        "retraining.metric",
        "retraining.new_days",
        "retraining.scores.0.lead",
        "retraining.scores.0.level",
        "retraining.scores.0.variable",
        "retraining.stability.margin",
        "retraining.stability.spectrum",
        "retraining.then",
        "retraining.training_days",
        "retraining.validation_days",
        "retraining.warm_start",
        "retraining.worse_by_at_most",
    ),
}
"""Keys that are part of no hash, by the reason their fields give."""

STEPS_AFTER = {"forecast": "made before it", "evaluation": "made before it"}
NO_NETWORK = {**STEPS_AFTER, "model": "holds for any network", "training": "holds for any training"}
GROWS = "it grows with time, and is kept by period"
WHEN_READ = "done to what is read from it"
CHOSEN_FROM = "one choice of what it holds"
WITHOUT_SCORES = ("climatology", "climatology_window", "plume_points", "dask")
NOT_IN = {
    "world": {
        **NO_NETWORK,
        "normalization": "made from it",
        "data.source.url": "which store it is, if any",
        "data.source.component": "there is one kind",
        **{
            f"data.{key}": "what is taken from it"
            for key in Data.model_fields
            if key not in ("source", "allow_overlap", "region", "accept_implausible")
        },
    },
    "data": {
        **NO_NETWORK,
        "normalization": "made from it",  # but its weights' layer thickness is one of the variables
        "data.targets": CHOSEN_FROM,
        "data.forcings": CHOSEN_FROM,
        "data.input_frames": CHOSEN_FROM,
        "data.transforms": WHEN_READ,
        "data.tisr_period": WHEN_READ,
        "data.training": GROWS,
        "data.validation": GROWS,
        "data.evaluation": GROWS,
    },
    "statistics": {
        **NO_NETWORK,
        "data.targets": CHOSEN_FROM,
        "data.forcings": CHOSEN_FROM,
        "data.input_frames": CHOSEN_FROM,
        "data.training": GROWS,
        "data.validation": GROWS,
        "data.evaluation": GROWS,
        "normalization.period": GROWS,
    },
    "climatology": {
        "forecast": "made before it",
        "model": "holds for any network",
        "training": "holds for any training",
        "normalization": "of fields as they are",
        "data.forcings": "of targets alone",
        "data.input_frames": "of targets alone",
        "data.transforms": "of fields as they are",
        "data.tisr_period": "of targets alone",
        "data.validation": "has its own period",
        "data.evaluation": "has its own period",
        **{f"evaluation.{key}": "done with it" for key in Evaluation.model_fields if key not in WITHOUT_SCORES},
    },
    "run": {**STEPS_AFTER, "data.evaluation": "not seen by the training"},
    "forecasts": {"evaluation": "made before it"},
    "scores": {},
}
"""By product, the keys of other outputs' hashes that are no part of its own, and why."""


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return names.changes(Paths, tmp_path_factory.mktemp("nothing-made"))


def reasons(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The keys that their fields leave out of all hashes, with the reason there."""
    for name, field in model.model_fields.items():
        if isinstance(mark := mark_of(field), NotIdentity):
            yield prefix + name, mark.why
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from reasons(field.annotation, f"{prefix}{name}.")


def part_of(key: str, sections: Any) -> list[str]:
    return [one for one in sections if f"{key}.".startswith(f"{one}.")]


def test_these_keys_are_left_out_of_all_hashes_for_the_reasons_at_their_fields(changes: Any) -> None:
    declared = dict(reasons(Experiment))
    silent = [key for key, changed in changes.items() if not changed]
    assert all(len(part_of(key, declared)) == 1 for key in silent)
    found: dict[str, list[str]] = {}
    for key in silent:
        found.setdefault(declared[part_of(key, declared)[0]], []).append(key)
    assert {why: sorted(keys) for why, keys in found.items()} == {why: sorted(keys) for why, keys in LEFT_OUT.items()}
    assert all(any(part_of(key, [one]) for key in silent) for one in declared)


@pytest.mark.parametrize("product", NOT_IN)
def test_these_other_keys_are_left_out_of_a_products_hash(changes: Any, product: str) -> None:
    left = {key for key, changed in changes.items() if changed and product not in changed}
    taken = {key for key, changed in changes.items() if product in changed}
    assert {key for key in left if not part_of(key, NOT_IN[product])} == set()
    assert {one for one in NOT_IN[product] if not any(part_of(key, [one]) for key in left)} == set()
    assert {key for key in taken if part_of(key, NOT_IN[product])} == set()


def with_a_new_key(section: Section, value: int, *, only: type[Section] | None = None) -> Section:
    """The same, but all its sections (or `only` such ones) have a key `new` whose default is 7."""
    parts = {name: _with_new_keys(getattr(section, name), value, only) for name in type(section).model_fields}
    if only not in (None, type(section)):
        return section.model_copy(update=parts)
    other = create_model(f"New{type(section).__name__}", __base__=type(section), new=(int, 7))
    return other.model_construct(**parts, new=value)


def _with_new_keys(content: Any, value: int, only: type[Section] | None) -> Any:
    if isinstance(content, Section):
        return with_a_new_key(content, value, only=only)
    if isinstance(content, tuple):
        return tuple(_with_new_keys(one, value, only) for one in content)
    if isinstance(content, dict):
        return {key: _with_new_keys(one, value, only) for key, one in content.items()}
    return content


def sections(content: Any) -> set[type[Section]]:
    """The kinds of sections in an experiment."""
    if isinstance(content, Section):
        return {type(content)}.union(*(sections(getattr(content, name)) for name in type(content).model_fields))
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, tuple) else ()
    return set().union(*map(sections, parts))


FULL = names.shipped(
    "tiny", "data.transforms={tmp: {}}", "training.stages.0.optimizer={}", names.FORECASTS, "normalization.period=null"
)
"""An experiment that has every kind of section."""


@pytest.mark.parametrize("kind", sorted(sections(FULL), key=lambda kind: kind.__name__))
def test_a_new_key_changes_no_hash_at_its_default(kind: type[Section], tmp_path: Path) -> None:
    before = Paths(FULL, tmp_path).hashes
    at_default = with_a_new_key(FULL, 7, only=kind)
    assert Paths(at_default, tmp_path).hashes == before  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "product"),
    [
        *((name, "run") for name in ("Compute", "Model", "Optimizer", "Training")),
        *((name, "scores") for name in ("Era5", "Evaluation")),
        ("Source", "data"),
        ("Transform", "statistics"),
        ("World", "world"),
    ],
)
def test_a_new_key_at_another_value_changes_the_hashes_of_its_section(kind: str, product: str, tmp_path: Path) -> None:
    (only,) = [one for one in sections(FULL) if one.__name__ == kind]
    other = with_a_new_key(FULL, 8, only=only)
    assert Paths(other, tmp_path).hashes[product] != Paths(FULL, tmp_path).hashes[product]  # type: ignore[arg-type]


def test_a_run_of_0_1_0_is_found_whatever_its_name_was_made_of(tmp_path: Path) -> None:
    often, seldom = (names.shipped("tiny", f"training.validate_every={every}") for every in (4, 300))
    fresh = Paths(often, tmp_path)
    assert fresh.hashes == Paths(seldom, tmp_path).hashes == Paths(names.shipped("tiny"), tmp_path).hashes
    kept = names.made_by_0_1_0(often, tmp_path)
    assert kept.run.is_dir() and kept.run != fresh.run and kept.run.name == "85404a88bd2b"
    assert (kept.forecasts.stem, kept.scores.stem) == ("23a3dbc0da7a", "f8de40a76c04")
    assert kept.report.stem == kept.scores.stem
    assert Paths(seldom, tmp_path).run == fresh.run  # the other one is trained once more, if it is asked for
    fresh.run.mkdir()
    assert Paths(often, tmp_path).run == kept.run  # and what is registered of the old run is still there
    default = names.shipped("tiny", "training.validate_every=500")
    assert names.made_by_0_1_0(default, tmp_path).run == fresh.run


def test_scores_of_0_1_0_with_options_for_era5_alone_are_found(tmp_path: Path) -> None:
    options = names.shipped("tiny", "evaluation.era5.storage_options={token: anon}")
    fresh = Paths(options, tmp_path)
    assert fresh.scores == Paths(names.shipped("tiny"), tmp_path).scores
    kept = names.made_by_0_1_0(options, tmp_path)
    assert kept.scores.is_dir() and kept.scores.name == "98597af481bd.zarr"


def test_a_warm_start_has_the_same_name_below_any_root(tmp_path: Path) -> None:
    checkpoint = "runs/tiny/0123456789ab/checkpoints/00000016"
    here, there, elsewhere = (
        loading.parse(loading.dump(names.shipped("tiny")), [f"training.init_from={start}"])
        for start in (tmp_path / checkpoint, Path("/other") / checkpoint, tmp_path / checkpoint.replace("16", "12"))
    )
    assert Paths(here, tmp_path).hashes == Paths(there, tmp_path).hashes
    assert Paths(here, tmp_path).run != Paths(elsewhere, tmp_path).run
    kept = names.made_by_0_1_0(there, tmp_path)
    assert kept.run.is_dir() and kept.run != Paths(here, tmp_path).run
