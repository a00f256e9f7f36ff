"""The graphs GraphCast lives on: an icosahedral multimesh, and its edges from and to a latitude-longitude grid."""

from graphufs.graph.build import Edges, Graph, assemble_graph, build_graph

__all__ = ["Edges", "Graph", "assemble_graph", "build_graph"]
