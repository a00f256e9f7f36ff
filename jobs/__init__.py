"""The job system: where and how steps run. Nothing in `graphufs` imports it."""

__all__ = [
    "airflow", "begin", "calc_normalization", "catalogue", "catalogue_limits", "cli", "doctor", "hand_out", "job",
    "permissions", "preflight", "run_evaluation", "run_training", "scheduler", "site", "submission", "work", "worker",
]  # fmt: skip
