"""`python -m graphufs.cli` is the command `graphufs`."""

from graphufs.cli.main import main

main()
