"""What runs jobs: Slurm, or processes of this machine."""

__all__ = ["processes", "slurm"]
