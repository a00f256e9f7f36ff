"""The edges of points and nodes are listed once each, those that only pad a block never."""

from __future__ import annotations

import numpy as np

from graphufs.model.kernels.lists import EdgeLists


def test_every_edge_stands_once_at_its_point_and_once_at_its_node() -> None:
    point = np.array([[0, 2, 2, 0, 1], [1, 1, 1, 0, 0]], np.int32)
    node = np.array([[1, 0, 1, 0, 3], [2, 2, 0, 3, 3]], np.int32)  # of three nodes, so that 3 only pads
    lists = EdgeLists.build(point, node, points=3, nodes=3)
    of_point, of_node, starts = (np.asarray(part) for part in (lists.of_point, lists.of_node, lists.starts))
    assert of_point.tolist() == [[[0, -1, 1], [3, -1, 2], [-1, -1, -1]], [[-1, 0, -1], [-1, 1, -1], [-1, 2, -1]]]
    assert starts.tolist() == [[0, 2, 4, 4], [0, 1, 1, 3]]
    assert of_node[0, :4].tolist() == [1, 3, 0, 2] and of_node[1, :3].tolist() == [2, 0, 1]
    assert (np.asarray(lists.point) == point).all() and (np.asarray(lists.node) == node).all()
