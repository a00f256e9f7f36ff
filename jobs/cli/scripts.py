"""What the entry scripts share: an experiment by argument, p0 by default, and the steps they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from graphufs.cli.app import Options, run_steps
from graphufs.config.loading import experiment_of
from graphufs.errors import UserError
from jobs.cli import main as jobs_cli
from jobs.cli.app import Asked, Place
from jobs.cli.submit_commands import submit_chain


def run(description: str, steps: Sequence[str]) -> None:
    """Run the command line of an entry script: its steps here, or as jobs. Exits.

    The codes are those of `graphufs --help`; with --site those of `graphufs-jobs --help`.
    """
    script = App(help=f"{description} Runs the steps {', '.join(steps)}, skipping what is done.")

    @script.default
    def _(experiment: str = "p0", *, root: Path | None = None, site: str | None = None, asked: Asked = Asked()) -> int:
        """Run the steps.

        Parameters
        ----------
        experiment
            YAML file, or a shipped one's name.
        root
            Folder for everything that is made. [default: as graphufs, or the site's]
        site
            Submit the steps as jobs of a site; `graphufs-jobs sites` lists them.
        """
        if site is not None:
            return submit_chain(steps, experiment, Place(root=root, site=site), asked)
        if asked != Asked(set_=asked.set_):
            raise UserError(
                "--wait, --resource, --label and --force go with --site; without it the steps run here, one by one"
            )
        return run_steps(steps, experiment_of(experiment, list(asked.set_)), Options(root=root).folder())

    jobs_cli.main(command=script)
