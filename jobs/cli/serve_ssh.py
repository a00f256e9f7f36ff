"""An SSH key that can do nothing but what Airflow asks of a site: the forced command of OpenSSH's `authorized_keys`.

OpenSSH runs `graphufs-jobs serve-ssh SITE` whatever the client wants, and says in SSH_ORIGINAL_COMMAND what that was.
Its words are compared with what jobs/airflow/sites/client.py sends. What fits is done in this process, without any
shell and whatever program the client named; all else is refused, and noted in the site's root.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

from graphufs import reading
from graphufs.errors import UserError
from graphufs.steps import STEPS
from jobs.catalogue_limits import ENDINGS, PART
from jobs.cli.app import LABEL, app
from jobs.job.folder import KEY
from jobs.permissions import make_root
from jobs.site import Resources, load

PROGRAM = "graphufs-jobs"
REFUSED = "ssh-refused.log"
"""In the site's root: what was refused, whose, and why."""
LONGEST = 2**20
"""Bytes of that file, of which one older is kept."""
SBATCH = ("begin", "deadline", "licenses", "nice", "reservation")
"""Options of sbatch that may be asked for; others name files and programs."""

_STEP = "|".join(STEPS)
_NAMES = "|".join(name for name in Resources.model_fields if name != "sbatch")
_RESOURCE = rf"(?:{_NAMES}|sbatch\.(?:{'|'.join(SBATCH)}))=.*"
_DAYS = r"[1-9][0-9]{0,5}(?:\.[0-9]{1,6})?"  # a day at least: who has the key cannot have all removed at once
KINDS = ("forecast", "published", "merged", "cache", "leftover")
"""What the DAG `housekeeping` says for how many days to keep."""


@dataclass(frozen=True)
class Form:
    """What may follow a command: operands in this order, with `several` the last one more than once, and options.

    Operands and the values of options are patterns; an option without value has None.
    """

    operands: tuple[str, ...] = ()
    several: bool = False
    options: dict[str, str | None] = field(default_factory=dict)


COMMANDS = {
    "submit": Form(
        (_STEP, "-"),
        options={
            "--key": KEY.pattern,
            "--needs": KEY.pattern,
            "--label": LABEL.pattern,
            "--request": r"[a-z_]+=(?s:.*)",
            "--resource": _RESOURCE,
            "--force": None,
            "--first-wait": r"[0-9]{1,3}",
        },
    ),
    "status": Form((KEY.pattern,), several=True, options={"--history": None}),
    "list": Form(options={"--label": LABEL.pattern, "--unfinished": None}),
    "cancel": Form((KEY.pattern,), several=True),
    "poll": Form(),
    "show": Form(),
    "fetch": Form((rf"runs(?:/{PART}){{1,9}}{ENDINGS}",), options={"--limit": r"[0-9]{1,12}"}),
    "clean": Form(options={**{f"--{kind}-days": _DAYS for kind in KINDS}, "--yes": None}),
    "prune": Form(options={"--days": _DAYS, "--yes": None}),
    "sites": Form(options={"--check": None, "--resource": rf"(?:{_STEP})\.{_RESOURCE}"}),
}
"""What Airflow's client sends, besides `--site=NAME` and `--json`, which stand in each."""


@app.command(name="serve-ssh")
def serve_ssh(*sites: str) -> int:
    """Do what an SSH client asks, if Airflow would: for `command=` in authorized_keys (docs/deploy.md).

    Parameters
    ----------
    sites
        Names of the sites that the key is for.

    Raises
    ------
    UserError
        If anything else is asked for.
    """
    if not sites:
        raise UserError("name the site that the key is for, as in `graphufs-jobs serve-ssh hpc`")
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        words = allowed(asked, sites)
    except UserError as error:
        _note(load(sites[0]).folder(), asked, error)
        raise
    return int(app(words, result_action="return_value", exit_on_error=False, print_error=False) or 0)


def allowed(asked: str, sites: Sequence[str]) -> list[str]:
    """The words after the program's name of a command line that fits the protocol.

    Raises
    ------
    UserError
        If it does not.
    """
    try:
        program, command, *rest = shlex.split(asked)
    except ValueError:
        raise UserError(f"this key is for {PROGRAM} alone, not for {_shown(asked) or 'a shell'}") from None
    if Path(program).name != PROGRAM or command not in COMMANDS:
        raise UserError(f"this key is for {', '.join(COMMANDS)} of {PROGRAM} alone, not for {_shown(asked)}")
    form = COMMANDS[command]
    options = {**form.options, "--site": "|".join(map(re.escape, sites)), "--json": None}
    operands, given = [], set()
    for word in rest:
        if not word.startswith("--"):
            operands.append(word)
            continue
        name, equals, value = word.partition("=")
        pattern = options.get(name, r"(?!)")  # which fits nothing
        if not (not equals if pattern is None else equals and re.fullmatch(pattern, value)):
            raise UserError(f"this key may not use {_shown(word)} with {command}")
        given.add(name)
    patterns = list(form.operands)
    if form.several:
        patterns += patterns[-1:] * (len(operands) - len(patterns))
    if len(operands) != len(patterns) or not all(map(re.fullmatch, patterns, operands)):
        raise UserError(f"this key may not use {command} with {_shown(' '.join(operands)) or 'nothing'}")
    if not given >= {"--site", "--json"}:
        raise UserError(f"this key may use {command} only with --site=NAME and --json")
    return [command, *rest]


def _shown(text: str) -> str:
    return reading.shown(text) if text else ""


def _note(root: Path, asked: str, error: UserError) -> None:
    """Add a line to the log of what was refused; that there is no room for it lets nothing pass."""
    with suppress(OSError):
        make_root(root)
        handler = RotatingFileHandler(root / REFUSED, maxBytes=LONGEST, backupCount=1, encoding="utf-8")
        try:
            client = os.environ.get("SSH_CONNECTION", "unknown").split(" ")[0]
            line = f"from {client}: {error}; asked: {asked[:500]!a}"
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            handler.handle(logging.LogRecord(PROGRAM, logging.WARNING, "", 0, line.replace("\n", " "), (), None))
        finally:
            handler.close()
