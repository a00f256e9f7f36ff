"""Compute an experiment's statistics: `python jobs/calc_normalization.py [EXPERIMENT] [--site NAME]`, p0 by default."""

from jobs.cli import scripts

if __name__ == "__main__":
    scripts.run("Compute normalization statistics.", ("prepare", "normalize"))
