"""Score a trained emulator: `python jobs/run_evaluation.py [EXPERIMENT] [--site NAME]`, p0 by default."""

import sys

from jobs import entry

if __name__ == "__main__":
    sys.exit(
        entry.run("Make forecasts with a trained emulator, score them and report.", ("forecast", "evaluate", "report"))
    )
