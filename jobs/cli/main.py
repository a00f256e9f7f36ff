"""The command line `graphufs-jobs`: run steps where jobs run, and see how they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from graphufs import reading
from graphufs.cli.ending import DONE, Told, finish
from graphufs.errors import UserError
from jobs.cli import serve_ssh as serve_ssh  # its commands are this one's, as are those of
from jobs.cli import site_commands as site_commands
from jobs.cli import submit_commands as submit_commands
from jobs.cli.app import UNREACHABLE, Place, app, err, labels_of, out, print_json
from jobs.job.reading import Broken
from jobs.job.status import Status, read_statuses
from jobs.scheduler import slurm
from jobs.submission import tend as tending


@app.command
def status(*keys: str, history: bool = False, place: Place = Place()) -> int:
    """Show the state of jobs, by default of all, in one look at the scheduler.

    Parameters
    ----------
    keys
        Jobs.
    history
        Every attempt and segment too: nodes, times, reasons, GPU-hours, efficiency.
    """
    from jobs.cli.tables import ended, history_table, jobs_table
    from jobs.job.usage import history as history_of

    statuses, broken = place.survey(keys)
    histories = []
    for one_status in statuses if history else ():
        try:
            histories.append(history_of(one_status.job))
        except Broken as error:
            broken.append(error)
    code = place.ending(keys, statuses, broken, _odd(statuses))
    if place.json_:
        print_json(jobs=[status.to_json() for status in statuses], histories=histories, broken=_told(broken))
        return code
    console = out()
    console.print(jobs_table(statuses))
    for one in histories:
        console.print(f"\n{one['key']}")
        console.print(history_table(one))
        if one["waiting"] is not None:
            console.print(f"waiting for data: {100 * one['waiting']:.1f} % of the time")
        if one["silent"]:
            console.print(Text(one["silent"], "yellow"))
    if keys:
        for one_status in statuses:
            if one_status.over and one_status.state != "COMPLETED":
                console.print(ended(one_status), soft_wrap=True, markup=False)
    return code


@app.command(name="list")
def list_(
    *,
    label: Annotated[tuple[str, ...], Parameter(name="--label", negative=())] = (),
    unfinished: Annotated[bool, Parameter(negative=())] = False,
    place: Place = Place(),
) -> int:
    """List the jobs below the root.

    Parameters
    ----------
    label
        Only jobs with this label, as in --label owner=me. May be repeated: then with all of them.
    unfinished
        Only jobs that are not completed.
    """
    wanted = labels_of(label).items()
    statuses, broken = place.survey(
        (), lambda seen: wanted <= seen.intent.labels.items() and not (unfinished and seen.result)
    )
    return _show((), statuses, broken, place)


@app.command
def logs(key: str, *, follow: bool = False, attempt: int | None = None, place: Place = Place()) -> int:
    """Print a job's logs.

    Parameters
    ----------
    key
        The job.
    follow
        Stay and print what comes, until the job is over.
    attempt
        Which one. [default: the last]

    Raises
    ------
    UserError
        If there is no such job or attempt.
    """
    job = place.jobs([key])[0][0]
    job.require()
    last = job.attempt(attempt)
    if last is None:
        raise UserError(f"{key} has no attempt{'' if attempt is None else f' {attempt}'}; there are {job.attempts()}")
    seen: dict[Path, int] = {}

    def show() -> None:
        for path in job.logs(last.number):
            with open(path, "rb") as file:
                file.seek(seen.get(path, 0))
                sys.stdout.write(file.read().decode(errors="replace"))
                seen[path] = file.tell()
        sys.stdout.flush()

    show()
    while follow and not read_statuses([job])[0].over:
        time.sleep(1.0)
        show()
    show()
    return DONE


@app.command
def cancel(*keys: str, gone: Annotated[bool, Parameter(negative=())] = False, place: Place = Place()) -> int:
    """Cancel jobs, on their scheduler too.

    Parameters
    ----------
    keys
        Jobs.
    gone
        I know that they do not run any more: believed of local jobs of another machine that are LOST.

    Raises
    ------
    UserError
        If no job is named, or one runs on another machine.
    """
    if not keys:
        raise UserError("no job to cancel is named; `graphufs-jobs list` shows all")
    jobs, broken = place.jobs(keys)
    statuses = []
    for job in jobs:
        try:
            statuses.append(tending.cancel(job, gone=gone))
        except Broken as error:
            broken.append(error)
    elsewhere = [one for one in statuses if one.intent.executor != "slurm" and one.state in ("UNKNOWN", "LOST")]
    if elsewhere and not place.json_:
        raise UserError("; ".join(f"{one.job.key} is {one.state}: {one.message}" for one in elsewhere))
    return _show(keys, statuses, broken, place)


@app.command
def tend(*keys: str, place: Place = Place()) -> int:
    """See after jobs once: find lost numbers again, and restart what ended in a way that may go on."""
    console, found = err(), []
    jobs, broken = place.jobs(keys)
    for job in jobs:
        try:
            what, one = tending.tend(job)
        except Broken as error:
            broken.append(error)
            continue
        found.append((what, one))
        if not place.json_ and what != "nothing":
            console.print(f"{job.key}: {what}  {one.state}  {one.message}", soft_wrap=True, markup=False)
    code = place.ending(keys, found, broken, _odd([one for _, one in found]))
    if place.json_:
        print_json(jobs=[{"what": what, **one.to_json()} for what, one in found], broken=_told(broken))
    return code


@app.command
def poll(*, place: Place = Place()) -> int:
    """Answer a control plane's questions about many jobs at once: JSON on standard input, JSON on standard output."""
    from jobs.submission import poll as polling

    print_json(jobs=polling.poll(polling.parse(_asked(), place.folder())))
    return DONE


def _asked() -> str:
    try:
        return reading.read_text(sys.stdin, reading.LONGEST_JSON)
    except UserError as error:
        raise UserError(f"cannot read what poll is asked from standard input: {error}") from None


def _show(keys: Sequence[str], statuses: list[Status], broken: list[Broken], place: Place) -> int:
    if place.json_:
        jobs = []
        for one in statuses:
            try:
                jobs.append({"what": tending.outlook(one), **one.to_json()})
            except Broken as error:
                broken.append(error)
        code = place.ending(keys, jobs, broken, ())
        print_json(jobs=jobs, broken=_told(broken))
        return code
    from jobs.cli.tables import jobs_table

    code = place.ending(keys, statuses, broken, _odd(statuses))
    out().print(jobs_table(statuses))
    return code


def _odd(statuses: Sequence[Status]) -> list[Broken]:
    return [error for status in statuses for error in status.seen.odd]


def _told(broken: Sequence[Broken]) -> list[dict[str, str]]:
    return [error.to_json() for error in broken]


def main(arguments: Sequence[str] | None = None, command: App = app) -> None:
    """Run the command line and exit."""
    finish(
        lambda given: command(given, result_action="return_value", exit_on_error=False, print_error=False),
        arguments,
        _silent,
    )


def _silent(error: Exception) -> Told | None:
    if isinstance(error, slurm.Silent):
        return UNREACHABLE, "the scheduler does not answer", f"{error}; try again later"
    return None


if __name__ == "__main__":
    main()
