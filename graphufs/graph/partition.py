"""A graph divided over several devices: which grid points, mesh nodes and edges each has, and what it needs of others.

The sphere is cut in two again and again, across its longest side (of several, latitudes first), at the median of the
grid points and at that of the mesh nodes (recursive coordinate bisection): parts are equally large, and neighbours stay
together. A grid point takes its edges along, an edge of the mesh belongs to its receiver. So all that crosses is what a
mesh node holds, once a message step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphufs.errors import UserError
from graphufs.graph.build import Edges, Graph

Numbers = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Reach:
    """The mesh nodes of others that each part needs.

    A part numbers what it reaches so: its own nodes first, then those that came from each part, in turn.
    """

    send: Numbers
    """[part, to part, place], which of its own nodes a part sends; places without one have the node that only pads."""
    everything: bool
    """Whether each part gets all nodes of all instead, which are no more."""
    nodes: int
    """How many nodes each part has itself."""

    @property
    def sent(self) -> int:
        """How many nodes a part sends to all others, those that only pad included."""
        parts, _, places = self.send.shape
        return (parts - 1) * (self.nodes if self.everything else places)

    @property
    def reached(self) -> int:
        """How many nodes a part reaches, its own included."""
        parts, _, places = self.send.shape
        return self.nodes + parts * (self.nodes if self.everything else places)


@dataclass(frozen=True, eq=False)
class Partition:
    """A graph in parts of equal shape."""

    grid_shape: tuple[int, int]
    """Of the whole grid: (latitudes, longitudes)."""
    points: Numbers
    """[part, point], the grid points; the last ones repeat the first where a part has fewer."""
    real: NDArray[np.bool_]
    """[part, point], False where a point is such a repetition."""
    graphs: tuple[Graph, ...]
    """Of each part. Features are those of its own nodes, the last of which only pads, as do edges to it. Edges between
    grid and mesh have the numbers of `grid` for mesh nodes; those on the mesh have own receivers, and senders by the
    numbers of `mesh`."""
    grid: Reach
    mesh: Reach
    degrees: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Of each part, how many edges from the grid and on the mesh, whosever they are, end at its own nodes [node]."""

    @staticmethod
    def of(graph: Graph, parts: int) -> Partition:
        """Divide a graph.

        Raises
        ------
        UserError
            If there are more parts than mesh nodes.
        """
        require_parts(parts, len(graph.mesh_features), len(graph.grid_features))
        part_of_point, part_of_node = _bisected(graph, parts)
        points = _padded([np.flatnonzero(part_of_point == part) for part in range(parts)])
        counts = np.bincount(part_of_point, minlength=parts)
        own = _Own.of(part_of_node, parts)
        of_point = part_of_point[graph.grid2mesh.senders], part_of_point[graph.mesh2grid.receivers]
        of_edge = part_of_node[graph.mesh.receivers]
        mesh, mesh_numbers = own.reach([graph.mesh.senders[of_edge == part] for part in range(parts)])
        ends = graph.grid2mesh.receivers, graph.mesh2grid.senders
        near = [
            np.concatenate([end[part_of == part] for end, part_of in zip(ends, of_point, strict=True)])
            for part in range(parts)
        ]
        grid, grid_numbers = own.reach(near)
        most = int(np.bincount(of_edge, minlength=parts).max())
        place = np.empty(len(part_of_point), np.int32)
        for row, count in zip(points, counts, strict=True):
            place[row[:count]] = np.arange(count)
        graphs = []
        for part in range(parts):
            to_mesh, here = of_point[0] == part, of_edge == part
            corners = graph.mesh2grid.senders.reshape(-1, 3)[points[part]]
            features = graph.mesh2grid.features.reshape(-1, 3, 4)[points[part]]
            graphs.append(
                Graph(
                    grid_shape=(1, points.shape[1]),
                    grid_features=graph.grid_features[points[part]],
                    mesh_features=own.rows(graph.mesh_features, part),
                    grid2mesh=Edges(
                        place[graph.grid2mesh.senders[to_mesh]],
                        grid_numbers[part][graph.grid2mesh.receivers[to_mesh]],
                        graph.grid2mesh.features[to_mesh],
                    ),
                    mesh=_with_padding(
                        Edges(
                            mesh_numbers[part][graph.mesh.senders[here]],
                            own.number[graph.mesh.receivers[here]],
                            graph.mesh.features[here],
                        ),
                        most,
                        own.nodes - 1,
                    ),
                    mesh2grid=Edges(
                        grid_numbers[part][corners].ravel(),
                        np.repeat(np.arange(points.shape[1], dtype=np.int32), 3),
                        features.reshape(-1, 4),
                    ),
                )
            )
        real = np.arange(points.shape[1]) < counts[:, None]
        ending = [np.bincount(edges.receivers, minlength=len(part_of_node)) for edges in (graph.grid2mesh, graph.mesh)]
        degrees = [(own.rows(ending[0], part), own.rows(ending[1], part)) for part in range(parts)]
        return Partition(graph.grid_shape, points, real, tuple(graphs), grid, mesh, tuple(degrees))

    def divided(self, field: NDArray[np.generic]) -> NDArray[np.generic]:
        """Fields [..., lat, lon] as [..., 1, part * point], the parts one after the other."""
        flat = field.reshape(*field.shape[:-2], -1)
        return np.take(flat, self.points.ravel(), axis=-1)[..., None, :]

    def stacked(self, field: NDArray[np.generic]) -> NDArray[np.generic]:
        """Fields [..., lat, lon] as [part, ..., 1, point]."""
        divided = self.divided(field)
        parts = divided.reshape(*divided.shape[:-1], *self.points.shape)
        return np.ascontiguousarray(np.moveaxis(parts, -2, 0))


@dataclass(frozen=True, eq=False)
class _Own:
    """The numbers of mesh nodes within their parts."""

    part: Numbers
    number: Numbers
    nodes: int
    """The most that a part has, and one more."""

    @staticmethod
    def of(part_of_node: Numbers, parts: int) -> _Own:
        number = np.empty(len(part_of_node), np.int32)
        for part in range(parts):
            here = part_of_node == part
            number[here] = np.arange(here.sum())
        return _Own(part_of_node, number, int(number.max()) + 2)

    def rows(self, values: np.ndarray, part: int) -> np.ndarray:
        rows = np.zeros((self.nodes, *values.shape[1:]), values.dtype)
        here = self.part == part
        rows[: here.sum()] = values[here]
        return rows

    def reach(self, needed: list[Numbers]) -> tuple[Reach, list[Numbers]]:
        """What crosses so that each part has the nodes [any] it needs, and for each part the number of every node.

        The numbers of nodes that it does not need mean nothing.
        """
        parts = len(needed)
        lists = [[np.empty(0, np.int32)] * parts for _ in range(parts)]
        for receiver, nodes in enumerate(needed):
            wanted = np.unique(nodes)
            for sender in set(range(parts)) - {receiver}:
                lists[sender][receiver] = wanted[self.part[wanted] == sender]
        places = max(len(chosen) for row in lists for chosen in row)
        everything = places >= self.nodes
        send = np.full((parts, parts, places), self.nodes - 1, np.int32)
        numbers = []
        for receiver in range(parts):
            number = np.where(self.part == receiver, self.number, 0).astype(np.int32)
            for sender in range(parts):
                chosen = lists[sender][receiver]
                send[sender, receiver, : len(chosen)] = self.number[chosen]
                if everything:
                    number[chosen] = self.nodes + sender * self.nodes + self.number[chosen]
                else:
                    number[chosen] = self.nodes + sender * places + np.arange(len(chosen))
            numbers.append(number)
        return Reach(send, everything, self.nodes), numbers


def require_parts(parts: int, mesh_nodes: int, grid_points: int) -> None:
    """See that each part gets a mesh node and a grid point.

    Raises
    ------
    UserError
        If there are too many parts.
    """
    if parts > min(mesh_nodes, grid_points):
        raise UserError(
            f"training.compute.mesh.space is {parts}, but there are {mesh_nodes} mesh nodes and {grid_points} grid "
            "points; ask for fewer parts, or a larger model.mesh_size"
        )


def _bisected(graph: Graph, parts: int) -> tuple[Numbers, Numbers]:
    """The part of each grid point and of each mesh node."""
    positions = _positions(graph.grid_features), _positions(graph.mesh_features)
    found = tuple(np.zeros(len(xyz), np.int32) for xyz in positions)

    def cut(chosen: tuple[Numbers, Numbers], first: int, count: int) -> None:
        if count == 1:
            for part_of, numbers in zip(found, chosen, strict=True):
                part_of[numbers] = first
            return
        low = count // 2
        sides = np.ptp(positions[1][chosen[1]], axis=0)
        # of the longest the last, across latitudes: a field's first halves are a stretch each of what is stored
        axis = int(np.flatnonzero(sides >= 0.9 * sides.max())[-1])
        halves = []
        for xyz, numbers in zip(positions, chosen, strict=True):
            here = xyz[numbers].round(6)  # places on the cut itself are told apart by their other coordinates
            order = np.lexsort((here[:, axis - 1], here[:, axis - 2], here[:, axis]))
            stop = round(len(numbers) * low / count)
            halves.append((numbers[order[:stop]], numbers[order[stop:]]))
        cut((halves[0][0], halves[1][0]), first, low)
        cut((halves[0][1], halves[1][1]), first + low, count - low)

    cut(tuple(np.arange(len(xyz), dtype=np.int32) for xyz in positions), 0, parts)  # type: ignore[arg-type]
    return found  # type: ignore[return-value]


def _positions(features: np.ndarray) -> np.ndarray:
    """Points on the unit sphere [node, 3], from what graphufs.graph.features.node_features made of them."""
    sine, cosine_longitude, sine_longitude = features.astype(np.float64).T
    radius = np.sqrt(np.maximum(0.0, 1 - sine**2))
    return np.stack([radius * cosine_longitude, radius * sine_longitude, sine], axis=1)


def _padded(rows: list[np.ndarray]) -> Numbers:
    most = max(len(row) for row in rows)
    return np.stack([np.concatenate([row, np.full(most - len(row), row[0])]) for row in rows]).astype(np.int32)


def _with_padding(edges: Edges, count: int, node: int) -> Edges:
    missing = count - len(edges)
    ends = np.full(missing, node, np.int32)
    return Edges(
        np.concatenate([edges.senders, ends]),
        np.concatenate([edges.receivers, ends]),
        np.concatenate([edges.features, np.zeros((missing, 4), np.float32)]),
    )
