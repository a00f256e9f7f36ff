"""Commands of `graphufs-jobs` that submit: one step, or the chain from data to report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, validators
from rich.text import Text

from graphufs.cli.ending import DONE, FAILED
from graphufs.config import moved_keys
from graphufs.config.request import Request as RunRequest
from graphufs.steps import CHAINS, STEPS, with_products
from jobs.cli.app import Asked, Place, app, err, labels_of, print_json, request_of
from jobs.job.status import Status, read_statuses
from jobs.site import load
from jobs.submission import submit


@app.command(name="submit")
def submit_(
    step: str,
    experiment: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    key: str | None = None,
    needs: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    request: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    first_wait: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=240))] = 0,
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
    first_wait
        Stay so many seconds at most: a job that is done by then is answered with its log and history.
    """
    told = request_of(request)
    if step in STEPS:
        STEPS[step].require_read(told)
    common, former = _common(experiment, place, asked)
    request_ = submit.Request(step, key=key, needs=needs, asked=former | told, **common)
    return submit_all([request_], place, asked, first_wait)


@app.command
def run(experiment: str, *, place: Place = Place(), asked: Asked = Asked()) -> int:
    """Submit all steps of an experiment, from data to report, each after the one it needs."""
    return submit_chain(CHAINS["run"], experiment, place, asked)


def submit_chain(steps: Sequence[str], experiment: str, place: Place, asked: Asked) -> int:
    """Submit steps of an experiment, each after the one before, and return the exit code."""
    common, _ = _common(experiment, place, asked)
    return submit_all(submit.chain(with_products(steps, common["experiment"]), **common), place, asked)


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


def submit_all(requests: list[submit.Request], place: Place, asked: Asked, first_wait: float = 0.0) -> int:
    """Submit jobs in this order, wait for them if asked to, or `first_wait` seconds, and return the exit code."""
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
    elif first_wait:
        statuses = [_soon_done(status, first_wait) for status in statuses]
    if place.json_:
        told = [{"what": what, **s.to_json()} for (what, _), s in zip(answers, statuses, strict=True)]
        if first_wait:
            told = [{**one, **_ended(status)} for one, status in zip(told, statuses, strict=True)]
        print_json(jobs=told)
    from jobs.cli.tables import ended

    bad = [one for one in statuses if one.state == "LOST" or (one.over and one.state != "COMPLETED")]
    for status in () if place.json_ else bad:
        console.print(ended(status), soft_wrap=True, markup=False)
    return FAILED if bad else DONE


def _soon_done(status: Status, seconds: float) -> Status:
    """The status of a job after a while, if it is done by then. Another end is for those who tend it."""
    if status.over:
        return status
    from jobs.cli.wait import wait_at_first

    wait_at_first(status.job, seconds)
    later = read_statuses([status.job])[0] if status.job.result() is not None else status
    return later if later.state == "COMPLETED" else status


def _ended(status: Status) -> dict[str, Any]:
    """What is told besides of a job that is done: its log and its history."""
    if status.state != "COMPLETED":
        return {}
    from jobs.job.usage import history
    from jobs.submission.poll import news

    return {"log": news(status.job, {})[0], "history": history(status.job)}
