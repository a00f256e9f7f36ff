"""What the entry scripts share: an experiment by argument, p0 by default, and the steps they stand for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from graphufs.cli.app import BAD_INPUT, Options, run_steps
from graphufs.errors import UserError
from jobs import site as sites
from jobs.cli import app as command
from jobs.cli import main as jobs_cli
from jobs.experiments import experiment_of
from jobs.scheduler import slurm
from jobs.submission import submit

DEFAULT_EXPERIMENT = Path(__file__).parents[2] / "experiments" / "p0.yaml"


def run(description: str, steps: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Parse the command line of an entry script, run the steps here or as jobs, and return the exit code.

    The codes are those of `graphufs --help`; with --site those of `graphufs-jobs --help`.
    """
    about = f"{description} Runs the steps {', '.join(steps)}, skipping what is done."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "experiment",
        nargs="?",
        default=str(DEFAULT_EXPERIMENT),
        help="YAML file, or a shipped one's name [default: p0]",
    )
    parser.add_argument(
        "--root", type=Path, help="folder for everything that is made [default: as graphufs, or the site's]"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key; repeatable")
    parser.add_argument(
        "--site", metavar="NAME", help="submit the steps as jobs of a site; `graphufs-jobs sites` lists them"
    )
    parser.add_argument("--wait", action="store_true", help="with --site: stay until the jobs are over, tending them")
    parser.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with --site: override what it gives each job; repeatable",
    )
    options = parser.parse_args(arguments)
    if options.site is None and (options.wait or options.resource):
        parser.error("--wait and --resource go with --site; without it the steps run here, one after the other")
    try:
        experiment = experiment_of(options.experiment, options.set)
        if options.site is None:
            return run_steps(steps, experiment, Options(root=options.root).folder())
        site = sites.load(options.site)
        resources = tuple(options.resource)
        requests = submit.chain(
            steps,
            experiment=experiment,
            site_name=options.site,
            site=site,
            root=site.folder(options.root),
            resources=resources,
        )
        asked = command.Asked(resource=resources, wait=options.wait)
        return jobs_cli.submit_all(requests, command.Place(root=options.root, site=options.site), asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except slurm.Silent as silent:
        print(f"the scheduler does not answer: {silent}; try again later", file=sys.stderr)
        return command.UNREACHABLE
