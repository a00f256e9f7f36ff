"""The programs of a training: which are compiled when, and whether they fit the memory."""

__all__ = ["compiled_steps", "memory_check"]
