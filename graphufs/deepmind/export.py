"""An emulator as a checkpoint in DeepMind's format: names, channel order, configuration and parameters.

Every variable that DeepMind has a name for gets it, and the channels stand in the order those names sort in
(graphufs.deepmind.names). The statistics that scale inputs and outputs have no place in the format: DeepMind keeps them
in files of their own, and so does `graphufs normalize`.

Two fields are added to the task configuration, `static_variables` and `level_variables`; DeepMind's own reader takes
the fields it knows and leaves these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphufs import masking
from graphufs.config.data import EMBEDDED, Data
from graphufs.deepmind.names import ATMOSPHERIC, NAMES, STATIC, SURFACE, Labels, deepmind_names, permute
from graphufs.deepmind.npz import Checkpoint, to_deepmind, write_checkpoint
from graphufs.emulator.emulator import ReplayEmulator
from graphufs.errors import UserError
from graphufs.model.noise import has_learnt_noise, noise_channels, without_maps
from graphufs.vocabulary.variables import BY_REPLAY, BY_WEATHERBENCH


def labels_of(emulator: ReplayEmulator) -> Labels:
    """What the channels of an emulator's network are, by Replay's names, in its order."""
    data = emulator.experiment.data
    return Labels.of(
        emulator.channels,
        {name: [wanted for wanted, _ in emulator.domain.levels(name)] for name in emulator.domain.slices},
        {name: transform.function for name, transform in data.transforms.items()},
    )


def official_checkpoint(emulator: ReplayEmulator, license: str = "") -> Checkpoint:
    """An emulator in DeepMind's names, order and configuration; the license, free text, is that of the parameters.

    Raises
    ------
    UserError
        If variables have different levels, which the format cannot say, or two have the same name in it; or if the
        network is conditioned on noise, by maps that are not all zeros.
    """
    if has_learnt_noise(emulator.network):
        raise UserError(
            f"{emulator.experiment.name} is an ensemble model, conditioned on model.noise of "
            f"{noise_channels(emulator.network)} channels; DeepMind's GraphCast format has no place for that. Export "
            "the deterministic model it was started from"
        )
    here = labels_of(emulator)
    there = here.renamed(deepmind_names(here.variables))
    return Checkpoint(
        parameters=to_deepmind(permute(without_maps(emulator.network), there, there.sorted())),
        model_config=model_config(emulator),
        task_config=task_config(emulator),
        description=_description(emulator, there),
        license=license,
    )


def model_config(emulator: ReplayEmulator) -> dict[str, Any]:
    """The network's sizes in the format's words."""
    model, longitude = emulator.experiment.model, emulator.domain.longitude
    return {
        "resolution": float(abs(longitude[1] - longitude[0])),
        "mesh_size": model.mesh_size,
        "latent_size": model.latent_size,
        "gnn_msg_steps": model.message_steps,
        "hidden_layers": model.hidden_layers,
        "radius_query_fraction_edge_length": model.radius_fraction,
        "mesh2grid_edge_normalization_factor": model.mesh2grid_normalization,
    }


def task_config(emulator: ReplayEmulator) -> dict[str, Any]:
    """Variables, levels and the time the input frames span, in the format's words; errors as `official_checkpoint`."""
    data, labels = emulator.experiment.data, labels_of(emulator)
    labels = labels.renamed(deepmind_names(labels.variables))
    transformed = {name: f"{transform.function}_{name}" for name, transform in data.transforms.items()}

    def named(variables: tuple[str, ...]) -> tuple[str, ...]:
        labelled = (transformed.get(name, name) for name in variables)
        return tuple(NAMES.get(name, name) for name in labelled)

    return {
        "input_variables": named(data.inputs),
        "target_variables": named(data.targets),
        "forcing_variables": named(data.forcings),
        "pressure_levels": tuple(int(level) if level.is_integer() else level for level in _common_levels(labels)),
        "input_duration": f"{data.input_frames * data.time_step}h",
        "static_variables": tuple(sorted({label.variable for label in labels.inputs if label.frame is None})),
        "level_variables": tuple(
            sorted({label.variable for label in (*labels.rows, *labels.outputs) if label.level is not None})
        ),
    }


def export(emulator: ReplayEmulator, path: Path | str, license: str = "") -> Checkpoint:
    """Write an emulator as an npz file in DeepMind's format and return what was written.

    Raises
    ------
    UserError
        If the emulator cannot be said in that format, or there is no folder to write to.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into; make it first")
    checkpoint = official_checkpoint(emulator, license)
    write_checkpoint(path, checkpoint)
    return checkpoint


def _common_levels(labels: Labels) -> tuple[float, ...]:
    by_variable: dict[str, list[float]] = {}
    for label in (*labels.rows, *labels.outputs):
        if label.level is not None and label.level not in by_variable.setdefault(label.variable, []):
            by_variable[label.variable].append(label.level)
    different = {tuple(levels) for levels in by_variable.values()}
    if len(different) > 1:
        raise UserError(
            f"{', '.join(sorted(by_variable))} have different levels; a checkpoint in DeepMind's format has one list "
            "of levels for all variables"
        )
    return different.pop() if different else ()


def _description(emulator: ReplayEmulator, labels: Labels) -> str:
    """What the names do not say, for a reader of the file."""
    experiment = emulator.experiment
    data = experiment.data
    own = sorted(set(labels.variables) - set(NAMES.values()) - ATMOSPHERIC - STATIC - SURFACE)
    words = experiment.description.rstrip(".") or "a weather emulator"
    parts = [
        f"{experiment.name}: {words}. Trained on {_source(data)}, in steps of {data.time_step} h, to predict "
        f"{', '.join(sorted({label.variable for label in labels.outputs}))}.",
        "Its statistics are not in this file.",
    ]
    if own:
        parts.append(f"DeepMind has no name for {', '.join(own)}, which keep the source's.")
    if "toa_incident_solar_radiation" in labels.variables and data.tisr_period != 1:
        parts.append(f"toa_incident_solar_radiation is summed over {data.tisr_period} h.")
    return " ".join(parts)


def _source(data: Data) -> str:
    """What an emulator learnt from, without credentials, and without the folders of this machine."""
    url = data.source.url
    if url == EMBEDDED:
        return "the idealised world that graphufs makes itself"
    told = masking.place(url) if "://" in url else Path(url).name
    by_replay = [name in BY_REPLAY for name in data.stored_variables if name in BY_REPLAY or name in BY_WEATHERBENCH]
    return f"UFS Replay ({told})" if all(by_replay) else told
