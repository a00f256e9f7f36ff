"""Train the emulator of an experiment: `python jobs/run_training.py [EXPERIMENT] [--site NAME]`, p0 by default."""

from jobs.cli import scripts

if __name__ == "__main__":
    scripts.run("Train the emulator.", ("prepare", "normalize", "train"))
