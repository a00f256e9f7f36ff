"""The command line `graphufs-jobs`."""
