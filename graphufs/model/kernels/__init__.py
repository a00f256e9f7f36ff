"""Fused kernels: messages between grid and mesh without an array over edges and samples in a GPU's memory."""

__all__ = ["by_node", "by_point", "choice", "lists", "messages", "tile", "weights"]
