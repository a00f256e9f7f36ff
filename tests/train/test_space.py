"""Samples shared among devices: the same values, gradients and trainings as on one device, to rounding."""

from __future__ import annotations

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from graphufs.config import loading
from graphufs.emulator import checkpoint
from graphufs.errors import UserError
from graphufs.graph.build import build_graph
from graphufs.graph.partition import Partition
from graphufs.model.arrangement import CPU, GPU
from graphufs.model.arrays import GraphArrays
from graphufs.model.exchange import SPACE
from graphufs.model.network import GraphCast
from graphufs.steps import run_step
from graphufs.storage.paths import Paths
from graphufs.train.devices import Devices
from tests.conftest import TINY
from tests.support.children import Child
from tests.support.training import assert_close, assert_equal_arrays, devices_seen, final_arrays, train_elsewhere

SETTINGS = [
    "model.message_steps=1",
    "training.stages=[{name: rollout, updates: 10, rollout: 2, learning_rate: {peak: 1.0e-3}}]",
    "training.batch_size=2",
    "training.validate_every=10",
    "training.checkpoint_every=5",
    "training.average=0.9",
    "training.divergence.factor=null",
    "training.compute.precision=float32",
]


def graph_of(rows=12, columns=26, mesh_size=2):
    return build_graph(np.linspace(-84, 84, rows), np.arange(columns) * 360 / columns, mesh_size=mesh_size)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_partition_has_every_point_node_and_edge_once(parts):
    graph = graph_of()
    found = Partition.of(graph, parts)
    np.testing.assert_array_equal(np.sort(found.points[found.real]), np.arange(len(graph.grid_features)))
    counts = found.real.sum(axis=1)
    assert counts.max() - counts.min() <= 1
    assert sum((degrees[1] > 0).sum() for degrees in found.degrees) == len(graph.mesh_features)
    dummy = found.mesh.nodes - 1
    assert sum((part.mesh.receivers < dummy).sum() for part in found.graphs) == len(graph.mesh)
    assert sum(len(part.grid2mesh) for part in found.graphs) == len(graph.grid2mesh)


def test_what_crosses_is_a_small_part_of_a_large_mesh():
    graph = graph_of(64, 128, mesh_size=4)
    nodes = len(graph.mesh_features)
    found = Partition.of(graph, 8)
    assert not found.grid.everything and found.grid.reached - found.grid.nodes < nodes / 4
    # long edges of the coarse meshes cross everywhere
    assert not found.mesh.everything and found.mesh.reached - found.mesh.nodes < nodes


def test_more_parts_than_mesh_nodes_are_refused():
    with pytest.raises(UserError, match=r"training.compute.mesh.space is 13, but there are 12 mesh nodes"):
        Partition.of(graph_of(mesh_size=0), 13)


def values_and_gradients(connection, parts, fused):
    """In the child, which sees 8 devices: the largest differences from one device, relative to each array's size."""
    graph, how = graph_of(), GPU if fused else CPU
    network = GraphCast.init(
        inputs=5, outputs=3, latent_size=16, message_steps=2, hidden_layers=1, key=jax.random.key(0)
    )
    network = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), network)
    generator = np.random.default_rng(1)
    x, weight = (generator.normal(size=(2, 312, channels)).astype(np.float32) for channels in (5, 3))

    def loss(network, arrays, x, weight):
        y = network(x, arrays)
        return (jnp.square(y) * weight).sum(), y

    alone = GraphArrays.from_graph(graph, latent_size=16, blocks=2, arrangement=how)
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(network, alone, x, weight)
    partition = Partition.of(graph, parts)
    arrays = GraphArrays.of_parts(partition, latent_size=16, arrangement=how)
    order, real = partition.points.ravel(), partition.real.ravel()

    def shared(network, arrays, x, weight):
        arrays = jax.tree.map(lambda leaf: leaf[0], arrays)
        (value, y), gradient = jax.value_and_grad(loss, has_aux=True)(network, arrays, x, weight)
        return jax.lax.psum((value, gradient), SPACE), y

    points = PartitionSpec(None, SPACE)
    (value, gradient), y = jax.jit(
        jax.shard_map(
            shared,
            mesh=Mesh(np.array(jax.devices()[:parts]), (SPACE,)),
            in_specs=(PartitionSpec(), PartitionSpec(SPACE), points, points),
            out_specs=(PartitionSpec(), points),
            check_vma=False,
        )
    )(network, arrays, x[:, order], weight[:, order] * real[:, None])
    whole = np.zeros_like(expected[0][1])
    whole[:, order[real]] = y[:, real]
    pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(((value, whole), gradient)), strict=True)
    return max(float(np.abs(one - other).max() / (np.abs(one).max() + 1e-6)) for one, other in pairs)


@pytest.mark.long  # ten updates on two devices, below, come to the same
@pytest.mark.parametrize(("parts", "fused"), [(2, False), (8, False), (3, True)])
def test_values_and_gradients_are_those_of_one_device(parts, fused):
    child = Child(values_and_gradients, parts, fused, environment=devices_seen(8))
    # sums of some hundred edges in another order
    assert child.hear() < 1e-5


@pytest.fixture(scope="module")
def alone(normalized_root, tmp_path_factory):
    """A training on one device: its root and final arrays."""
    root = shutil.copytree(normalized_root, tmp_path_factory.mktemp("alone") / "root")
    experiment = loading.load(TINY, SETTINGS)
    assert run_step("train", experiment, root)["status"] == "completed"
    return root, final_arrays(Paths(experiment, root))


def test_ten_updates_on_two_devices_that_share_each_sample_are_those_of_one(alone, normalized_root, tmp_path):
    experiment = loading.load(TINY, [*SETTINGS, "training.compute.mesh.space=2"])
    root = shutil.copytree(normalized_root, tmp_path / "root")
    result, found = train_elsewhere(experiment, root, devices=2)
    assert_close(alone[1], found)
    np.testing.assert_allclose(
        result["validation_loss"],
        run_step("train", loading.load(TINY, SETTINGS), alone[0])["validation_loss"],
        rtol=1e-4,
    )
    meta = checkpoint.read_meta(checkpoint.last(Paths(experiment, root).checkpoints))
    assert (meta["environment"]["devices"], meta["environment"]["space"]) == (2, 2)


@pytest.mark.long
@pytest.mark.parametrize(("devices", "processes", "space"), [(4, 1, 2), (1, 2, 2), (2, 2, 2), (2, 2, 4)])
def test_any_arrangement_trains_what_one_device_does(alone, normalized_root, tmp_path, devices, processes, space):
    experiment = loading.load(TINY, [*SETTINGS, f"training.compute.mesh.space={space}"])
    root = shutil.copytree(normalized_root, tmp_path / "root")
    assert_close(alone[1], train_elsewhere(experiment, root, devices, processes)[1])


@pytest.mark.long
def test_a_checkpoint_of_one_arrangement_goes_on_on_another_and_bit_for_bit_on_its_own(
    alone, normalized_root, tmp_path
):
    experiment = loading.load(TINY, [*SETTINGS, "training.compute.mesh.space=2"])
    root = shutil.copytree(normalized_root, tmp_path / "root")
    _, whole = train_elsewhere(experiment, root, devices=2)
    paths = Paths(experiment, root)
    for devices, same in ((2, True), (1, False)):
        shutil.rmtree(checkpoint.last(paths.checkpoints))
        again = experiment if same else loading.load(TINY, SETTINGS)
        result, found = train_elsewhere(again, root, devices=devices)
        if same:
            assert_equal_arrays(whole, found)
        else:
            assert_close(whole, found)
            assert "goes on from update 5 elsewhere" in result["warnings"][0]


@pytest.mark.parametrize("mesh", ["{space: 2}", "{batch: 3}", "{batch: 2, space: 4}"])
def test_an_arrangement_that_cannot_be_is_refused(mesh):
    experiment = loading.load(TINY, ["training.batch_size=12", f"training.compute.mesh={mesh}"])
    with pytest.raises(UserError, match=r"training.compute.mesh is \{batch: .*, which 1 process with 1 cpu device"):
        Devices.choose(12, None, experiment.training.compute.mesh)
