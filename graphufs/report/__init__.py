"""The report: what an experiment achieved, on one HTML page that needs nothing else."""
