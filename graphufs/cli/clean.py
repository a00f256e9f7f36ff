"""The command `graphufs clean`: list what nobody needs any more, and with --yes remove it and merge old segments."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from graphufs.cli.ending import DONE, FAILED, STOPPED
from graphufs.cli.models import Where
from graphufs.cli.terminal import console, polite_stop
from graphufs.errors import Stopped, UserError
from graphufs.housekeeping.retention import Retention
from graphufs.steps import ShouldStop, never_stop
from graphufs.storage.paths import root_folder

if TYPE_CHECKING:
    from graphufs.housekeeping.removable import Removable


Yes = Annotated[bool, Parameter(negative=())]


def clean(*, yes: Yes = False, keep: Retention = Retention(), where: Where = Where()) -> int:
    """List what of the root nobody needs any more, and remove it with --yes.

    These are forecasts of nights and comparisons that are scored, the scores of single nights, compiled programs out of
    use, and what killed processes left. Nightly segments of past months of prepared data are merged. It may be
    interrupted, and repeated. Exit code 1: something could not be removed. Old job folders: `graphufs-jobs prune`.

    Parameters
    ----------
    yes
        Do it.
    """
    with polite_stop(console(stderr=True)) as should_stop:
        found = tidy(root_folder(where.root), keep, yes, should_stop)
    print(json.dumps(found, indent=2)) if where.json_ else show_found(found)
    return exit_code(found)


def tidy(root: Path, keep: Retention, yes: bool, should_stop: ShouldStop = never_stop) -> dict[str, Any]:
    """Find what may go, and with `yes` remove it and merge what may be merged; all in JSON.

    Raises
    ------
    UserError
        If a number of days is wrong, or the registry cannot be read.
    """
    from graphufs.data import merge
    from graphufs.housekeeping import removable
    from graphufs.products import stac

    found, to_merge = removable.find(root, keep), removable.to_merge(root)
    todo: list[tuple[Path, Callable[[], object]]] = [(one.path, one.remove) for one in found]
    todo += [(folder, partial(merge.merge, folder, should_stop=should_stop)) for folder in to_merge]
    in_use: list[str] = []
    failed: list[str] = []
    for path, what in todo if yes else ():
        if should_stop():
            break
        try:
            what()
        except FileNotFoundError:  # somebody else was faster
            continue
        except Stopped as error:
            in_use.append(f"{path}: {error}")
        except (UserError, OSError) as error:
            failed.append(f"{path}: {error}")
    if yes and found and (root / stac.FOLDER).is_dir():
        stac.write(root)
    merges = [
        {"folder": str(folder), "segments": sum(map(len, groups)), "become": len(groups)}
        for folder, groups in to_merge.items()
    ]
    return {
        "root": str(root),
        "removable": [_told(one) for one in found],
        "merges": merges,
        "done": yes and not should_stop(),
        "stopped": should_stop(),
        "in_use": in_use,
        "failed": failed,
    }


def exit_code(found: dict[str, Any]) -> int:
    """The exit code after what `tidy` found."""
    return STOPPED if found["stopped"] else FAILED if found["failed"] else DONE


def show_found(found: dict[str, Any]) -> None:
    """Print what `tidy` found: what goes and why, and for each kind how many, files and bytes."""
    out = console(width=None if console().is_terminal else 160)
    table = Table(box=None, pad_edge=False)
    for name in ("what", "files", "MiB", "why"):
        table.add_column(name, overflow="fold", justify="right" if name in ("files", "MiB") else "left")
    kinds: dict[str, list[dict[str, Any]]] = {}
    for one in found["removable"]:
        kinds.setdefault(one["kind"], []).append(one)
        table.add_row(Text(one["path"]), f"{one['files']:,}", f"{one['bytes'] / 2**20:,.1f}", one["reason"])
    if kinds:
        out.print(table)
    for kind, ones in kinds.items():
        files, size = sum(one["files"] for one in ones), sum(one["bytes"] for one in ones) / 2**20
        out.print(f"{kind}: {len(ones)}, {files:,} files, {size:,.1f} MiB")
    for one in found["merges"]:
        out.print(f"{one['folder']}: {one['segments']} segments of past months become {one['become']}", soft_wrap=True)
    for line in found["in_use"]:
        out.print(f"left for the next time: {line}", soft_wrap=True)
    for line in found["failed"]:
        out.print(line, soft_wrap=True, style="red")
    if not kinds and not found["merges"]:
        out.print(f"{found['root']}: nothing to do", soft_wrap=True)
    elif found["stopped"]:
        out.print("stopped; repeat the command to go on")
    else:
        out.print("done" if found["done"] else "nothing was changed; with --yes this is done")


def _told(one: Removable) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "path": str(one.path),
        "bytes": one.size,
        "files": one.files,
        "reason": one.reason,
    }
