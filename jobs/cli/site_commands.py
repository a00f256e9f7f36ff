"""Commands of `graphufs-jobs` about the site and its root: sites, show, fetch, prune, clean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from graphufs.cli.clean import Yes
from graphufs.cli.ending import DONE, FAILED
from graphufs.cli.terminal import polite_stop
from graphufs.housekeeping.retention import Retention
from jobs.cli.app import Place, app, err, out, print_json
from jobs.job.reading import Broken
from jobs.site import available, load


@app.command
def show(*, place: Place = Place()) -> int:
    """Show what the root holds: experiments, runs, models, scores, reports."""
    from jobs.catalogue import catalogue

    content = catalogue(place.folder())
    if place.json_:
        print_json(**content)
        return DONE
    print(f"{content['root']}\nexperiments: {', '.join(content['experiments'])}")
    for one in content["runs"]:
        loss = "" if one["validation_loss"] is None else f", validation loss {one['validation_loss']:.4g}"
        made = ", ".join(f"{len(one[kind])} {kind}" for kind in ("forecasts", "scores", "reports"))
        print(f"{one['experiment']}/{one['run']}: {one['updates']} updates{loss}; {made}")
    for one in content["models"]:
        print(f"{one['id']}: {one['role']}, registered {one['registered']}")
    for one in content["nightly"]:
        print(f"{one['model']}: {one['initial_times']} initial times scored by night, {len(one['holes'])} holes")
    for kind, count in content["older"].items():
        print(f"and {count:,} older {kind}; `graphufs models list` tells of all models")
    for warning in content["warnings"]:
        print(f"warning: {warning}")
    return DONE


@app.command
def fetch(
    name: str,
    *,
    to: Path | None = None,
    report: bool = False,
    limit: int = 2**30,
    place: Place = Place(),
) -> int:
    """Hand out a file or folder of the root.

    With --json and without --to, a file's content is part of the answer, in base64.

    Parameters
    ----------
    name
        A path below the root; with --report a job's key.
    to
        Where to copy it. [default: standard output]
    report
        Take the report of a job's experiment.
    limit
        With --json, bytes that the file may have.
    """
    from jobs import hand_out

    root = place.folder()
    if report:
        name = str(hand_out.report_of(root, name))
    if place.json_ and to is None:
        print_json(**hand_out.packed(root, name, limit))
        return DONE
    size = hand_out.fetch(root, name, to)
    if to is not None:
        if place.json_:
            print_json(path=str(to), bytes=size)
        else:
            print(f"{to}: {size:,} bytes")
    return DONE


@app.command
def prune(*, days: float = 30.0, yes: bool = False, place: Place = Place()) -> int:
    """List job folders that are long over and data out of use, and remove them with --yes.

    Parameters
    ----------
    days
        How long they must have been unchanged.
    yes
        Remove them.
    """
    from jobs.cli.tables import waste_table
    from jobs.submission import prune as pruning

    root = place.folder()
    broken: list[Broken] = []
    waste = pruning.find(root, days, broken)
    place.ending((), waste, broken, ())
    if yes:
        waste = pruning.remove(root, days, waste)
    if place.json_:
        found = [{"path": str(one.path), "bytes": one.size, "reason": one.reason} for one in waste]
        print_json(waste=found, removed=yes, broken=[error.to_json() for error in broken])
        return DONE
    console = out()
    console.print(waste_table(waste))
    size = sum(one.size for one in waste) / 2**20
    console.print(f"{len(waste)} folders, {size:,.1f} MiB: {'removed' if yes else 'would be removed with --yes'}")
    return DONE


@app.command
def doctor(*, set_aside: Annotated[bool, Parameter(negative=())] = False, place: Place = Place()) -> int:
    """List what cannot be read below the root: folders of jobs, what lies among them, events of the registry.

    Nothing else is held up by these: other commands leave them out and say so. Exit code 1 if anything is left.

    Parameters
    ----------
    set_aside
        Move it to ROOT/set-aside, where nothing looks for jobs. Nothing is ever deleted there. A job whose folder was
        set aside is unknown from then on, so the folder of one that may be at work stays.
    """
    from jobs import doctor as looking
    from jobs.cli.tables import ailments_table

    root = place.folder()
    found = looking.find(root)
    moved = dict(looking.set_aside(root, found)) if set_aside else {}
    left = [one for one in found if one.path not in moved]
    if place.json_:
        print_json(
            broken=[{"path": str(one.path), "reason": one.reason, "instead": one.instead or None} for one in found],
            moved={str(path): str(target) for path, target in moved.items()},
        )
        return FAILED if left else DONE
    out().print(ailments_table(found))
    for path, target in moved.items():
        out().print(Text(f"{path} is now {target}"), soft_wrap=True)
    can = sum(not one.instead for one in left)
    hint = f", {can} of them can be moved away with --set-aside" if can else ""
    out().print(f"{len(left)} cannot be read{hint}" if left else "nothing is left that cannot be read")
    return FAILED if left else DONE


@app.command
def clean(*, yes: Yes = False, keep: Retention = Retention(), place: Place = Place()) -> int:
    """As `graphufs clean`: list forecasts, scores, caches and leftovers that nobody needs, and with --yes remove them.

    Parameters
    ----------
    yes
        Do it.
    """
    from graphufs.cli.clean import exit_code, show_found, tidy

    with polite_stop(err()) as should_stop:
        found = tidy(place.folder(), keep, yes, should_stop)
    print_json(**found) if place.json_ else show_found(found)
    return exit_code(found)


@app.command
def sites(
    name: Annotated[str | None, Parameter(name="--site")] = None,
    *,
    check: bool = False,
    resource: Annotated[tuple[str, ...], Parameter(name="--resource", negative=())] = (),
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
    resource
        With --check, what jobs of a step will ask for besides, as in --resource train.gpus=2. May be repeated.
    """
    if name is None:
        known = {one: load(one) for one in available()}
        if json_:
            print_json(sites={one: site.model_dump(mode="json") for one, site in known.items()})
        else:
            for one, site in known.items():
                print(f"{one:<18} {site.executor:<6} {site.description}")
        return DONE
    site = load(name)
    if not check:
        content = site.model_dump(mode="json")
        if json_:
            print_json(name=name, **content)
        else:
            print(json.dumps(content, indent=2))
        return DONE
    from jobs.cli.tables import findings_table
    from jobs.preflight import check as look

    findings = list(look(name, site, site.folder(root), resource))
    if json_:
        print_json(site=name, findings=[vars(finding) for finding in findings])
    else:
        out().print(findings_table(name, findings))
    return FAILED if any(finding.good is False for finding in findings) else DONE
