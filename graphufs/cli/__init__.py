"""The command line `graphufs`."""
