"""The commands that do a night, and its steps."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from graphufs.cli.app import Options, app, exit_code, run_one, take
from graphufs.steps import CHAINS


@app.command
def extend_world(experiment: Path, *, night: date | None = None, options: Options = Options()) -> int:
    """Let a night pass in the embedded world: its store goes on by nightly.days_per_night.

    Parameters
    ----------
    night
        Which night this is, as in 2026-03-01. [default: today, UTC]
    """
    return run_one(experiment, options, "extend_world", night=night)


@app.command
def plan_nightly(experiment: Path, *, model: str | None = None, options: Options = Options()) -> int:
    """Choose the model and the initial times of a night: those with data that it has not been scored on.

    The result's `experiment` is what the night's `prepare`, `forecast`, `evaluate` and `record-nightly` are given.

    Parameters
    ----------
    model
        champion (the newest candidate while there is none), latest, or the id of a model. [default: champion]
    """
    return run_one(experiment, options, "plan_nightly", model=model)


@app.command
def record_nightly(experiment: Path, *, options: Options = Options()) -> int:
    """Add the scores of a planned night to those of the nights before, and refresh the report. Needs `evaluate`."""
    return run_one(experiment, options, "record_nightly")


@app.command
def nightly(
    experiment: Path, *, night: date | None = None, model: str | None = None, options: Options = Options()
) -> int:
    """Do a whole night: let time pass in the embedded world, plan, prepare, forecast, evaluate and record.

    Initial times wait for other nights where there are more than nightly.at_most; repeat the command to go on.

    Parameters
    ----------
    night
        Which night this is, as in 2026-03-01. [default: today, UTC]
    model
        champion (the newest candidate while there is none), latest, or the id of a model. [default: champion]
    """
    loaded, request = options.load_run(experiment, night=night, model=model)
    root = options.folder()
    results = take(CHAINS["nightly"], loaded, root, request=request)
    if not options.json_ and "report" in results[-1]:
        print(f"Report: {root / results[-1]['report']}")
    return exit_code(results, options.json_)
