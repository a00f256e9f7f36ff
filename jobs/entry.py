"""What the entry scripts share: an experiment by argument, p0 by default, and the steps they stand for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from graphufs import cli, configuration
from graphufs.errors import UserError

DEFAULT_EXPERIMENT = Path(__file__).parents[1] / "experiments" / "p0.yaml"


def run(description: str, steps: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Parse the command line of an entry script, run the steps, and return the exit code (see `graphufs --help`)."""
    about = f"{description} Runs the steps {', '.join(steps)}, skipping what is done."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("experiment", nargs="?", type=Path, default=DEFAULT_EXPERIMENT, help="YAML file [default: p0]")
    parser.add_argument("--root", type=Path, help="folder for everything that is made [default: as graphufs]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key; repeatable")
    options = parser.parse_args(arguments)
    try:
        experiment = configuration.load(options.experiment, options.set)
        return cli.run_steps(steps, experiment, cli.Options(root=options.root).folder())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return cli.BAD_INPUT
