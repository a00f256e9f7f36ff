"""Score a trained emulator: `python jobs/run_evaluation.py [EXPERIMENT] [--site NAME]`, p0 by default."""

from jobs.cli import scripts

if __name__ == "__main__":
    scripts.run("Make forecasts with a trained emulator, score them and report.", ("forecast", "evaluate", "report"))
