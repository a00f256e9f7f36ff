"""Fused kernels: messages between grid and mesh, and MLPs, without their hidden arrays in a GPU's memory."""

__all__ = [
    "by_node",
    "by_point",
    "by_row",
    "choice",
    "each_number",
    "lists",
    "messages",
    "on_mesh",
    "row_gradients",
    "row_tile",
    "tile",
    "weights",
]
