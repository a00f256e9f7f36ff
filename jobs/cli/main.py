"""The command line `graphufs-jobs`: run steps where jobs run, and see how they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.text import Text

from graphufs import reading
from graphufs.cli.ending import DONE, FAILED, Told, finish
from graphufs.config import moved_keys
from graphufs.config.request import Request as RunRequest
from graphufs.errors import UserError
from graphufs.steps import CHAINS, STEPS
from jobs.cli import serve_ssh as serve_ssh  # its commands are this one's, as are those of
from jobs.cli import site_commands as site_commands
from jobs.cli.app import (
    UNREACHABLE,
    Asked,
    Place,
    app,
    err,
    labels_of,
    out,
    print_json,
    request_of,
)
from jobs.job.reading import Broken
from jobs.job.status import Status, read_statuses
from jobs.scheduler import slurm
from jobs.site import load
from jobs.submission import submit
from jobs.submission import tend as tending


@app.command(name="submit")
def submit_(
    step: str,
    experiment: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    key: str | None = None,
    needs: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    request: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    place: Place = Place(),
    asked: Asked = Asked(),
) -> int:
    """Submit a step of an experiment, once.

    Parameters
    ----------
    step
        Such as train; `graphufs --help` tells them all, here they are written with underscores.
    experiment
        A YAML file, the name of one that is shipped, or - for standard input.
    key
        The job's key. [default: made of step, experiment and site]
    needs
        Key of a job that must complete first. May be repeated.
    request
        What is asked of this run, as in answer=promote, for steps that read it: night, model, champion, answer,
        decided_by, why, rollback_to, cost. May be repeated.
    """
    told = request_of(request)
    if step in STEPS:
        STEPS[step].require_read(told)
    common, former = _common(experiment, place, asked)
    return submit_all([submit.Request(step, key=key, needs=needs, asked=former | told, **common)], place, asked)


@app.command
def run(experiment: str, *, place: Place = Place(), asked: Asked = Asked()) -> int:
    """Submit all steps of an experiment, from data to report, each after the one it needs."""
    return submit_chain(CHAINS["run"], experiment, place, asked)


def submit_chain(steps: Sequence[str], experiment: str, place: Place, asked: Asked) -> int:
    """Submit steps of an experiment, each after the one before, and return the exit code."""
    return submit_all(submit.chain(steps, **_common(experiment, place, asked)[0]), place, asked)


def _common(experiment: str, place: Place, asked: Asked) -> tuple[dict[str, Any], RunRequest]:
    """What requests for all steps of an experiment have in common, and what former keys of it ask of the run."""
    from graphufs.config.loading import run_of

    loaded, former = run_of(experiment, list(asked.set_))
    for hint in moved_keys.hints(former):
        err().print(Text(hint, "yellow"), soft_wrap=True)
    site = load(place.site)
    common = {
        "experiment": loaded,
        "site_name": place.site,
        "site": site,
        "root": site.folder(place.root),
        "force": asked.force,
        "resources": asked.resource,
        "labels": labels_of(asked.label),
    }
    return common, former


def submit_all(requests: list[submit.Request], place: Place, asked: Asked) -> int:
    """Submit jobs in this order, wait for them if asked to, and return the exit code."""
    console, answers = err(), []
    for request in requests:
        submit.check(request)
    for request in requests:
        what, status = submit.submit(request)
        if request.site.executor == "debug" and what == "submitted":
            from jobs.submission import launch

            assert status.attempt is not None
            launch.here(status.job, status.attempt)
            status = read_statuses([status.job])[0]
        answers.append((what, status))
        if not place.json_:
            console.print(f"{what}: {status.job.key}  {status.state}  {status.id or ''}")
        if status.ending == "refused":
            break
    statuses = [status for _, status in answers]
    if asked.wait:
        from jobs.cli.wait import wait

        statuses = wait([status.job for status in statuses], requests[0].site, None if place.json_ else console)
    if place.json_:
        print_json(jobs=[{"what": what, **s.to_json()} for (what, _), s in zip(answers, statuses, strict=True)])
    from jobs.cli.tables import ended

    bad = [one for one in statuses if one.state == "LOST" or (one.over and one.state != "COMPLETED")]
    for status in () if place.json_ else bad:
        console.print(ended(status), soft_wrap=True, markup=False)
    return FAILED if bad else DONE


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
