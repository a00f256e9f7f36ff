"""Parity with DeepMind's GraphCast (tag v0.2) on every case found in the golden folder.

A case NAME is the files NAME_meta.json, NAME_data.npz, ... described in NAME_meta.json; nothing here knows a case.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest

from graphufs.deepmind.npz import from_deepmind, read_checkpoint, to_deepmind, write_checkpoint
from graphufs.emulator.rollout import rollout
from graphufs.graph import build_graph
from graphufs.graph.icosphere import icosphere
from graphufs.grid.areas import quadrature_weights
from graphufs.model.channels import ChannelMap
from graphufs.model.compile import jit
from graphufs.model.one_step import Stepper
from graphufs.train.loss import LossWeights, batch_loss_and_grads
from graphufs.train.loss_weights import level_weights

STEP_GRADIENTS = jit(lambda network, *args: batch_loss_and_grads(network, *args, device_batch_size=len_of(args[-2])))
ROLLOUT_GRADIENTS = jit(lambda *args: batch_loss_and_grads(*args, device_batch_size=1, remat=True))
CANONICAL = ("batch", "time", "level", "lat", "lon")


def len_of(arrays: dict[str, Any]) -> int:
    """The number of samples."""
    return max(array.shape[0] for array in arrays.values())


class Case:
    """One golden case, and what this package computes for it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.meta = json.loads((folder / f"{name}_meta.json").read_text())
        self.config = self.meta["model_config"]
        self.factor = self.config.get("mesh2grid_edge_normalization_factor")
        data = self.file("data")
        self.data = data
        self.latitude, self.longitude = data["lat"], data["lon"]
        self.level = [] if "level" not in data else list(np.atleast_1d(data["level"]))
        self.inputs, self.targets, self.forcings = (self.arrays(kind) for kind in ("inputs", "targets", "forcings"))

    def file(self, kind: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{self.name}_{kind}.npz") as file:
            return {key: file[key] for key in file.files}

    def group(self, kind: str, name: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(f"{name}/"): v for k, v in self.file(kind).items() if k.startswith(f"{name}/")}

    def canonical(self, array: np.ndarray, dims: list[str]) -> np.ndarray:
        array = np.transpose(array, [dims.index(dim) for dim in CANONICAL if dim in dims])
        return array.reshape([array.shape[[d for d in CANONICAL if d in dims].index(dim)] if dim in dims else 1
                              for dim in CANONICAL])  # fmt: skip

    def arrays(self, kind: str) -> dict[str, np.ndarray]:
        dims = self.meta["dims"][kind]
        return {name: self.canonical(self.data[f"{kind}/{name}"], dims[name]) for name in dims}

    def statistics(self, kind: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(f"{kind}/"): v for k, v in self.data.items() if k.startswith(f"{kind}/")}

    def first_targets(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Targets and forcings at the first lead time."""
        return tuple({name: array[:, :1] for name, array in kind.items()} for kind in (self.targets, self.forcings))  # type: ignore[return-value]

    @cached_property
    def graph(self) -> Any:
        return build_graph(
            self.latitude,
            self.longitude,
            mesh_size=self.config["mesh_size"],
            radius_fraction=self.config["radius_query_fraction_edge_length"],
            mesh2grid_normalization=self.factor,
            ties="reference",
        )

    @cached_property
    def channels(self) -> ChannelMap:
        dims = self.meta["dims"]["inputs"]
        everything = {**self.inputs, **self.targets, **self.forcings}
        return ChannelMap.build(
            self.inputs,
            self.targets,
            self.forcings,
            levels={name: array.shape[2] for name, array in everything.items()},
            input_frames=max(array.shape[1] for name, array in self.inputs.items() if "time" in dims[name]),
            static={name for name in dims if "time" not in dims[name]},
        )

    @cached_property
    def network(self) -> Any:
        return from_deepmind(self.file("params"))

    def stepper(self, **options: Any) -> Stepper:
        return Stepper.build(
            self.channels,
            self.graph,
            mean=self.statistics("mean"),
            std=self.statistics("std"),
            diffs_std=self.statistics("diffstd"),
            latent_size=self.config["latent_size"],
            blocks=1,
            **options,
        )

    @cached_property
    def weights(self) -> LossWeights:
        dims = self.meta["dims"]["targets"]
        return LossWeights.build(
            self.channels,
            self.latitude,
            self.longitude,
            levels={name: self.level for name in dims if "level" in dims[name]},
            variable_weights=self.meta["loss_weights"],
        )

    @cached_property
    def forward_results(self) -> tuple[Any, Any, Any]:
        """The network's input and output and the prediction of one step."""

        def forward(network: Any, stepper: Any, inputs: Any, forcings: Any) -> tuple[Any, Any, Any]:
            x = stepper.stack(inputs, forcings)
            return x, network(x, stepper.graph), stepper(network, inputs, forcings)

        return jit(forward)(self.network, self.stepper(), self.inputs, self.first_targets()[1])

    @cached_property
    def step_results(self) -> tuple[Any, Any, Any]:
        """Loss, diagnostics and gradients of one step: the way of a small grid, all samples at once."""
        targets, forcings = self.first_targets()
        (loss, diagnostics), gradients = STEP_GRADIENTS(
            self.network, self.stepper(), self.weights, self.inputs, targets, forcings
        )
        return loss, diagnostics, to_deepmind(gradients)

    @cached_property
    def rollout_results(self) -> tuple[Any, Any, Any]:
        """The same of the whole rollout: one sample after the other, steps recomputed."""
        (loss, diagnostics), gradients = ROLLOUT_GRADIENTS(
            self.network, self.stepper(), self.weights, self.inputs, self.targets, self.forcings
        )
        return loss, diagnostics, to_deepmind(gradients)

    def expected_fields(self, kind: str) -> dict[str, np.ndarray]:
        dims = self.meta["dims"]["targets"]
        return {name: self.canonical(value, dims[name]) for name, value in self.group(kind, "pred").items()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        folder = golden_folder(metafunc.config)
        names = sorted(path.name.removesuffix("_meta.json") for path in folder.glob("*_meta.json"))
        # compiling dominates; in bfloat16 and over rollouts the first case shows it, and the long suite the others
        test = metafunc.function.__name__
        first = "bfloat16" in test or test in (
            "test_the_rollouts_loss_and_diagnostics_are_the_references",
            "test_gradient_norms_of_the_rollout_are_the_references",
        )
        later = [pytest.mark.long] if first else []
        cases = [pytest.param(Case(folder, name), marks=later if number else []) for number, name in enumerate(names)]
        metafunc.parametrize("case", cases, ids=names, scope="session")


def golden_folder(config: pytest.Config) -> Path:
    root = config.getoption("golden_root", default=None) or Path(__file__).parent
    return Path(root) / "graphcast"


def assert_fields_close(actual: dict[str, Any], expected: dict[str, np.ndarray], tolerance: float) -> None:
    """Within `tolerance` of each field's standard deviation, or one float32 spacing where that is more."""
    assert set(actual) == set(expected)
    for name, field in expected.items():
        error = np.abs(np.asarray(actual[name], np.float64) - field).max()
        spacing = np.spacing(np.float32(np.abs(field).max()))
        assert error <= max(tolerance * field.astype(np.float64).std(), spacing), f"{name}: {error}"


def test_the_golden_folder_holds_cases(request: pytest.FixtureRequest) -> None:
    folder = golden_folder(request.config)
    assert list(folder.glob("*_meta.json")), f"no case in {folder}"


def test_vertices_and_faces_of_all_meshes_are_the_references(case: Case) -> None:
    expected = case.file("graph")
    for level, mesh in enumerate(icosphere(case.config["mesh_size"])):
        np.testing.assert_array_equal(mesh.faces, expected[f"mesh{level}/faces"])
        np.testing.assert_allclose(mesh.vertices, expected[f"mesh{level}/vertices"], rtol=0, atol=1.2e-7)


def test_connections_are_the_references_at_ties_too(case: Case) -> None:
    expected = case.file("graph")
    for name in ("grid2mesh", "mesh", "mesh2grid"):
        np.testing.assert_array_equal(getattr(case.graph, name).senders, expected[f"{name}/senders"])
        np.testing.assert_array_equal(getattr(case.graph, name).receivers, expected[f"{name}/receivers"])


def test_structural_features_are_the_references(case: Case) -> None:
    expected = case.file("graph")
    for name in ("grid2mesh", "mesh", "mesh2grid"):
        edges = getattr(case.graph, name)
        np.testing.assert_allclose(edges.features, expected[f"{name}/edge_features"], rtol=0, atol=1e-5)
    for name, features in (("grid", case.graph.grid_features), ("mesh", case.graph.mesh_features)):
        expectation = expected[f"grid2mesh/node_features/{name}_nodes"]
        np.testing.assert_allclose(features, expectation, rtol=0, atol=1e-6)


def test_channels_are_in_the_references_order(case: Case) -> None:
    for slots, kind in ((case.channels.inputs, "input"), (case.channels.forcings, "forcing"),
                        (case.channels.outputs, "output")):  # fmt: skip
        expected = [tuple(channel) for channel in case.meta[f"{kind}_channels"]]
        dims = case.meta["dims"][f"{kind}s" if kind != "output" else "targets"]
        actual = [(v, time, case.level[level] if "level" in dims[v] else None) for v, time, level in slots]
        assert actual == expected


def test_stacked_normalised_inputs_are_the_references(case: Case) -> None:
    expected = case.file("step")["cap/x_stacked"].swapaxes(0, 1)
    np.testing.assert_allclose(case.forward_results[0], expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_the_networks_output_is_the_references(case: Case) -> None:
    expected = case.file("step")["cap/y_stacked"].swapaxes(0, 1)
    np.testing.assert_allclose(case.forward_results[1], expected, rtol=0, atol=5e-6 * np.abs(expected).max())


def test_one_step_is_the_references(case: Case) -> None:
    assert_fields_close(case.forward_results[2], case.expected_fields("step"), 1e-5)


def test_one_step_in_bfloat16_is_at_least_as_near_to_float32_as_the_references(case: Case) -> None:
    targets, forcings = case.first_targets()
    stepper = case.stepper(precision="bfloat16")
    prediction = jit(lambda *args: args[1](args[0], *args[2:]))(case.network, stepper, case.inputs, forcings)
    dims, (exact, rounded) = case.meta["dims"]["targets"], (case.group("step", kind) for kind in ("pred", "pred_bf16"))
    for name in exact:
        scale = case.statistics("diffstd").get(name, np.float32(1)).reshape(-1, 1, 1)
        expected, theirs = (case.canonical(kind[name], dims[name]).astype(np.float64) for kind in (exact, rounded))
        theirs, ours = (np.sqrt((((a - expected) / scale) ** 2).mean()) for a in (theirs, np.asarray(prediction[name])))
        assert 0 < ours <= theirs, name
        assert ours < 0.02, name  # of the step's typical change; bfloat16 keeps 8 bits, 0.004
    (loss, _), gradients = STEP_GRADIENTS(case.network, stepper, case.weights, case.inputs, targets, forcings)
    step = case.file("step")
    assert abs(loss - step["loss"]) <= abs(step["loss_bf16"] - step["loss"])
    for key, value in to_deepmind(gradients).items():
        expected = case.file("grads")[key]
        assert value.dtype == np.float32
        assert np.linalg.norm(value - expected) <= 0.03 * np.linalg.norm(expected), key


def test_the_rollout_is_the_references(case: Case) -> None:
    predictions = jit(rollout)(case.network, case.stepper(), case.inputs, case.forcings)
    assert_fields_close(predictions, case.expected_fields("rollout"), 1e-4)


def test_loss_weights_are_the_references(case: Case) -> None:
    np.testing.assert_allclose(quadrature_weights(case.latitude), case.data["lat_weights"], rtol=1e-5)
    if "level_weights" in case.data:
        np.testing.assert_allclose(level_weights(np.array(case.level)), case.data["level_weights"], rtol=1e-6)


def test_the_one_step_loss_and_diagnostics_are_the_references(case: Case) -> None:
    loss, diagnostics, _ = case.step_results
    expected = case.file("step")
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-5)
    assert set(diagnostics.by_variable) == set(case.group("step", "diag"))
    for name, value in case.group("step", "diag").items():
        np.testing.assert_allclose(diagnostics.by_variable[name], value, rtol=1e-5, err_msg=name)


def test_the_rollouts_loss_and_diagnostics_are_the_references(case: Case) -> None:
    loss, diagnostics, _ = case.rollout_results
    np.testing.assert_allclose(loss, case.file("rollout")["loss"], rtol=1e-5)
    for name, value in case.group("rollout", "diag").items():
        np.testing.assert_allclose(diagnostics.by_variable[name], value, rtol=1e-5, err_msg=name)


def test_one_step_gradients_are_the_references(case: Case) -> None:
    _, _, gradients = case.step_results
    expected = case.file("grads")
    assert set(gradients) == set(expected)
    for key, value in expected.items():
        assert np.abs(gradients[key] - value).max() <= 1e-4 * np.abs(value).max(), key


def test_gradient_norms_of_the_rollout_are_the_references(case: Case) -> None:
    _, _, gradients = case.rollout_results
    expected = case.group("rollout", "gradnorm")
    assert set(gradients) == set(expected)
    for key, value in expected.items():
        norm = np.sqrt((gradients[key].astype(np.float64) ** 2).sum())
        assert abs(norm - value) <= 1e-4 * value, key
    total = np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in gradients.values()))
    np.testing.assert_allclose(total, case.file("rollout")["grad_global_norm"], rtol=1e-4)


def test_adamw_takes_the_references_path(case: Case) -> None:
    adamw, (targets, forcings) = case.meta["adamw"], case.first_targets()
    optimizer = optax.adamw(
        adamw["lr"], b1=adamw["b1"], b2=adamw["b2"], eps=adamw["eps"], weight_decay=adamw["weight_decay"]
    )

    @jit
    def update(network: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradients, state, network)
        return optax.apply_updates(network, updates), state

    network, state, losses, stepper = case.network, optimizer.init(case.network), [], case.stepper()
    for _ in case.file("step")["adamw_losses"]:
        (loss, _), gradients = STEP_GRADIENTS(network, stepper, case.weights, case.inputs, targets, forcings)
        network, state = update(network, state, gradients)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, case.file("step")["adamw_losses"], rtol=1e-4)


def test_parameters_make_the_round_trip_through_our_modules_exactly(case: Case) -> None:
    parameters = case.file("params")
    back = to_deepmind(case.network)
    assert set(back) == set(parameters)
    for key, value in parameters.items():
        np.testing.assert_array_equal(back[key], value)
        assert back[key].dtype == value.dtype


def test_the_official_checkpoint_makes_the_round_trip_exactly(case: Case, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(case.folder / f"{case.name}_checkpoint_official.npz")
    for key, value in case.file("params").items():
        np.testing.assert_array_equal(checkpoint.parameters[key], value)
    assert checkpoint.model_config["latent_size"] == case.config["latent_size"]
    assert list(checkpoint.task_config["target_variables"]) == case.meta["task_config"]["target_variables"]
    write_checkpoint(tmp_path / "again.npz", checkpoint)
    with np.load(tmp_path / "again.npz") as ours:
        official = case.file("checkpoint_official")
        assert set(ours.files) == set(official)
        for key, value in official.items():
            np.testing.assert_array_equal(ours[key], value)
            assert ours[key].dtype == value.dtype, key
