"""Compute an experiment's statistics: `python jobs/calc_normalization.py [EXPERIMENT] [--site NAME]`, p0 by default."""

import sys

from jobs.cli import scripts

if __name__ == "__main__":
    sys.exit(scripts.run("Compute normalization statistics.", ("prepare", "normalize")))
