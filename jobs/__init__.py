"""The job system: where and how steps run. Nothing in `graphufs` imports it."""
