"""`python -m jobs`: the same as `graphufs-jobs`."""

from jobs.cli.main import main

if __name__ == "__main__":
    main()
