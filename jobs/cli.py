"""The command line `graphufs-jobs`: run steps where jobs run, and see how they are."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from graphufs.errors import UserError
from graphufs.steps import STEPS
from jobs import site as sites_module
from jobs import slurm, state, submit
from jobs.folder import JobFolder
from jobs.state import Status

PROTOCOL = 1
"""Raised when a command's JSON changes so that an older reader would misunderstand it."""
DONE, FAILED, BAD_INPUT, UNREACHABLE = 0, 1, 2, 69
WAIT = 2.0
"""Seconds between two looks of `--wait` at first; it grows to the site's poll interval."""

app = App(
    name="graphufs-jobs",
    help="""Run steps of an experiment as jobs: on Slurm, as a local process, or in the debugger.

    A job is known by its key: the same step of the same experiment on the same site is the same job. Submitting it
    again attaches to it, or starts a new attempt if it failed; it never runs twice. Jobs go on by themselves after time
    limits and preemption; `tend` restarts those that something else ended.

    Exit codes: 0 done, 1 a job failed, 2 bad input, 69 the scheduler does not answer.
    """,
)


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where to look."""

    root: Annotated[Path | None, Parameter(name="--root")] = None
    """Folder for everything that is made. [default: the site's, else $GRAPHUFS_ROOT, else ./graphufs-root]"""
    site: Annotated[str, Parameter(name="--site")] = "local"
    """A site's name (`graphufs-jobs sites` lists them) or file."""
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False
    """Print JSON and nothing else on standard output."""

    def folder(self) -> Path:
        """The root folder."""
        return sites_module.load(self.site).folder(self.root)

    def jobs(self, keys: Sequence[str]) -> list[JobFolder]:
        """The jobs of keys, or all."""
        root = self.folder()
        return [JobFolder(root, key) for key in keys] if keys else JobFolder.all(root)


@Parameter(name="*")
@dataclass(frozen=True)
class Asked:
    """What a new job is like."""

    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = ()
    """Override a key of the experiment, as in --set training.batch_size=8. May be repeated."""
    resource: Annotated[tuple[str, ...], Parameter(name="--resource", negative=())] = ()
    """Override what the site gives the job, as in --resource gpus=2. May be repeated."""
    force: Annotated[bool, Parameter(negative=())] = False
    """Run a step again whose job is completed."""
    wait: Annotated[bool, Parameter(negative=())] = False
    """Stay until it is over, tending it; interrupting that leaves the job alone."""


def _print_json(**content: Any) -> None:
    version = metadata.version("graphufs")
    print(json.dumps({"protocol": PROTOCOL, "graphufs": version, **content}, indent=2))


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _out() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@app.command(name="submit")
def submit_(
    step: str,
    experiment: str,
    *,
    key: str | None = None,
    needs: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    place: Place | None = None,
    asked: Asked | None = None,
) -> int:
    """Submit a step of an experiment, once.

    Parameters
    ----------
    step
        prepare, normalize, train, forecast, evaluate or report.
    experiment
        A YAML file, the name of one that is shipped, or - for standard input.
    key
        The job's key. [default: made of step, experiment and site]
    needs
        Key of a job that must complete first. May be repeated.
    """
    from jobs.catalogue import experiment_of

    place, asked = place or Place(), asked or Asked()
    loaded = experiment_of(experiment, list(asked.set_))
    site = sites_module.load(place.site)
    request = submit.Request(
        step, loaded, place.site, site, site.folder(place.root), key, needs, asked.force, asked.resource
    )
    return submit_all([request], place, asked)


@app.command
def run(experiment: str, *, place: Place | None = None, asked: Asked | None = None) -> int:
    """Submit all steps of an experiment, from data to report, each after the one it needs."""
    from jobs.catalogue import experiment_of

    place, asked = place or Place(), asked or Asked()
    loaded = experiment_of(experiment, list(asked.set_))
    site = sites_module.load(place.site)
    requests = submit.chain(
        list(STEPS),
        experiment=loaded,
        site_name=place.site,
        site=site,
        root=site.folder(place.root),
        force=asked.force,
        resources=asked.resource,
    )
    return submit_all(requests, place, asked)


def submit_all(requests: list[submit.Request], place: Place, asked: Asked) -> int:
    """Submit jobs in this order, wait for them if asked to, and return the exit code."""
    console, answers = _console(), []
    for request in requests:
        what, status = submit.submit(request)
        if request.site.executor == "debug" and what == "submitted":
            from jobs import launch

            assert status.attempt is not None
            launch.here(status.job, status.attempt)
            status = state.look([status.job])[0]
        answers.append((what, status))
        if not place.json_:
            console.print(f"{what}: {status.job.key}  {status.state}  {status.id or ''}")
        if status.ending == "refused":
            break
    statuses = [status for _, status in answers]
    if asked.wait:
        statuses = _wait([status.job for status in statuses], requests[0].site, None if place.json_ else console)
    if place.json_:
        _print_json(jobs=[{"what": what, **s.to_json()} for (what, _), s in zip(answers, statuses, strict=True)])
    return _verdict(statuses, console, quiet=place.json_)


def _verdict(statuses: Sequence[Status], console: Console, *, quiet: bool) -> int:
    from jobs.display import ended

    bad = [status for status in statuses if status.over and status.state != "COMPLETED"]
    if not quiet:
        for status in bad:
            console.print(ended(status, str(status.job.root)), soft_wrap=True, markup=False)
    return FAILED if bad else DONE


def _wait(jobs: list[JobFolder], site: sites_module.Site, console: Console | None) -> list[Status]:
    """Look at jobs, tending them, until each is over or waits for a person."""
    from jobs.display import progress

    told: dict[str, str] = {}
    pause = WAIT
    while True:
        statuses = state.look(jobs)
        final = []
        for index, status in enumerate(statuses):
            what = "nothing"
            if status.state != "COMPLETED" and (status.over or status.state == "SUBMITTING"):
                what, statuses[index] = submit.tend(status.job)
            status = statuses[index]
            final.append(
                status.state == "LOST" or (status.over and what in ("nothing", "stopped", "waits for a person"))
            )
            words = progress(status.job.progress()) if status.state == "RUNNING" else status.message
            line = f"{status.job.key}  {status.state}  {words}"
            if console is not None and told.get(status.job.key) != line:
                told[status.job.key] = line
                console.print(line, soft_wrap=True, markup=False)
        blocked = [s for s in statuses if s.over and s.state != "COMPLETED"]
        if all(final) or (
            blocked and all(done or s.state == "PENDING" for done, s in zip(final, statuses, strict=True))
        ):
            return statuses
        time.sleep(pause)
        pause = min(pause * 1.2, site.control.poll_interval)


@app.command
def status(*keys: str, history: bool = False, place: Place | None = None) -> int:
    """Show the state of jobs, by default of all, in one look at the scheduler.

    Parameters
    ----------
    keys
        Jobs.
    history
        Every attempt and segment too: nodes, times, reasons, GPU-hours, efficiency.
    """
    from jobs.display import ended, history_table, jobs_table
    from jobs.history import history as history_of

    place = place or Place()
    statuses = state.look(place.jobs(keys))
    histories = [history_of(status.job) for status in statuses] if history else []
    if place.json_:
        _print_json(jobs=[status.to_json() for status in statuses], histories=histories)
        return DONE
    console = _out()
    console.print(jobs_table(statuses))
    for one in histories:
        console.print(f"\n{one['key']}")
        console.print(history_table(one))
        if one["waiting"] is not None:
            console.print(f"waiting for data: {100 * one['waiting']:.1f} % of the time")
        if one["silent"]:
            console.print(f"[yellow]{one['silent']}[/]")
    if keys:
        for one_status in statuses:
            if one_status.over and one_status.state != "COMPLETED":
                console.print(ended(one_status, str(place.folder())), soft_wrap=True, markup=False)
    return DONE


@app.command(name="list")
def list_(*, place: Place | None = None) -> int:
    """List all jobs below the root."""
    return status(place=place)


@app.command
def logs(key: str, *, follow: bool = False, attempt: int | None = None, place: Place | None = None) -> int:
    """Print a job's logs.

    Parameters
    ----------
    key
        The job.
    follow
        Stay and print what comes, until the job is over.
    attempt
        Which one. [default: the last]
    """
    job = (place or Place()).jobs([key])[0]
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
    while follow and not state.look([job])[0].over:
        time.sleep(1.0)
        show()
    show()
    return DONE


@app.command
def cancel(*keys: str, place: Place | None = None) -> int:
    """Cancel jobs, on their scheduler too."""
    place = place or Place()
    if not keys:
        raise UserError("say which jobs to cancel; `graphufs-jobs list` shows all")
    return _each(place, keys, submit.cancel)


@app.command
def tend(*keys: str, place: Place | None = None) -> int:
    """See after jobs once: find lost numbers again, and restart what ended in a way that may go on."""
    place = place or Place()
    console, found = _console(), []
    for job in place.jobs(keys):
        what, one = submit.tend(job)
        found.append((what, one))
        if not place.json_ and what != "nothing":
            console.print(f"{job.key}: {what}  {one.state}  {one.message}", soft_wrap=True, markup=False)
    if place.json_:
        _print_json(jobs=[{"what": what, **one.to_json()} for what, one in found])
    return DONE


def _each(place: Place, keys: Sequence[str], action: Callable[[JobFolder], Status]) -> int:
    statuses = [action(job) for job in place.jobs(keys)]
    if place.json_:
        _print_json(jobs=[one.to_json() for one in statuses])
    else:
        from jobs.display import jobs_table

        _out().print(jobs_table(statuses))
    return DONE


@app.command
def show(*, place: Place | None = None) -> int:
    """Show what the root holds: experiments, runs, scores, reports."""
    from jobs.catalogue import catalogue

    place = place or Place()
    content = catalogue(place.folder())
    if place.json_:
        _print_json(**content)
        return DONE
    print(f"{content['root']}\nexperiments: {', '.join(content['experiments'])}")
    for one in content["runs"]:
        loss = "" if one["validation_loss"] is None else f", validation loss {one['validation_loss']:.4g}"
        made = ", ".join(f"{len(one[kind])} {kind}" for kind in ("forecasts", "scores", "reports"))
        print(f"{one['experiment']}/{one['run']}: {one['updates']} updates{loss}; {made}")
    return DONE


@app.command
def fetch(name: str, *, to: Path | None = None, report: bool = False, place: Place | None = None) -> int:
    """Hand out a file or folder of the root.

    Parameters
    ----------
    name
        A path below the root; with --report a job's key.
    to
        Where to copy it. [default: standard output]
    report
        Take the report of a job's experiment.
    """
    from jobs.catalogue import fetch as hand_out
    from jobs.catalogue import report_of

    place = place or Place()
    root = place.folder()
    if report:
        name = str(report_of(root, name))
    size = hand_out(root, name, to)
    if to is not None:
        if place.json_:
            _print_json(path=str(to), bytes=size)
        else:
            print(f"{to}: {size:,} bytes")
    return DONE


@app.command
def prune(*, days: float = 30.0, yes: bool = False, place: Place | None = None) -> int:
    """List job folders that are long over and data out of use, and remove them with --yes.

    Parameters
    ----------
    days
        How long they must have been unchanged.
    yes
        Remove them.
    """
    from jobs import prune as pruning
    from jobs.display import waste_table

    place = place or Place()
    waste = pruning.find(place.folder(), days)
    if yes:
        pruning.remove(waste)
    if place.json_:
        found = [{"path": str(one.path), "bytes": one.size, "reason": one.reason} for one in waste]
        _print_json(waste=found, removed=yes)
        return DONE
    console = _out()
    console.print(waste_table(waste))
    size = sum(one.size for one in waste) / 2**20
    console.print(f"{len(waste)} folders, {size:,.1f} MiB: {'removed' if yes else 'would be removed with --yes'}")
    return DONE


@app.command
def sites(
    name: str | None = None,
    *,
    check: bool = False,
    root: Path | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """List the sites, or show one; with --check, look whether it is ready for jobs.

    Parameters
    ----------
    name
        A site's name or file.
    check
        Look at everything a job will need. Exit code 1 if something is missing.
    """
    if name is None:
        known = {one: sites_module.load(one) for one in sites_module.available()}
        if json_:
            _print_json(sites={one: site.model_dump(mode="json") for one, site in known.items()})
        else:
            for one, site in known.items():
                print(f"{one:<18} {site.executor:<6} {site.description}")
        return DONE
    site = sites_module.load(name)
    if not check:
        content = site.model_dump(mode="json")
        print(json.dumps(content, indent=2))
        return DONE
    from jobs.display import findings_table
    from jobs.preflight import check as look

    findings = list(look(name, site, site.folder(root)))
    if json_:
        _print_json(site=name, findings=[vars(finding) for finding in findings])
    else:
        _out().print(findings_table(name, findings))
    return FAILED if any(finding.good is False for finding in findings) else DONE


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        code = app(arguments, result_action="return_value", exit_on_error=False)
    except CycloptsError:  # told by cyclopts already
        code = BAD_INPUT
    except UserError as error:
        _console().print(f"[red]error[/] {error}", soft_wrap=True)
        code = BAD_INPUT
    except slurm.Silent as silent:
        _console().print(f"[red]the scheduler does not answer[/] {silent}; try again later", soft_wrap=True)
        code = UNREACHABLE
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code or DONE)


if __name__ == "__main__":
    main()
