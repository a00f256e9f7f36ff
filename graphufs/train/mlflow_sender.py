"""The old place of `graphufs.train.tracking.mlflow_sender`, which trainings begun before version 0.2 start with -m.

Such a training has the old name in memory and starts the follower of its metrics by it. It may go after release 0.2,
when no such training runs.
"""

from graphufs.train.tracking.mlflow_sender import main

if __name__ == "__main__":
    main()
