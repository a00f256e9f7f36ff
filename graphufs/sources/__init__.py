"""What an experiment's data are read from: Replay, the embedded world, or an analysis in one of several layouts."""

__all__ = ["analysis", "experiment_source", "kinds", "weatherbench"]
