"""A real, private Slurm on one machine."""
