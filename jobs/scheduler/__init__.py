"""What runs jobs: Slurm, or processes of this machine."""
