"""A real, private Slurm on one machine."""

__all__ = ["cluster", "files"]
