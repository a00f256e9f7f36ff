"""Compute an experiment's statistics: `python jobs/calc_normalization.py [EXPERIMENT] [--site NAME]`, p0 by default."""

import sys

from jobs import entry

if __name__ == "__main__":
    sys.exit(entry.run("Compute normalization statistics.", ("prepare", "normalize")))
