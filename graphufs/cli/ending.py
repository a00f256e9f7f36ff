"""How a command ends: its exit code, and for all that goes wrong one line on standard error.

Every command of this project ends here: `graphufs`, `graphufs-jobs`, the scripts. Nobody is shown a traceback who did
not ask for it with --debug; that of a fault in the program itself is kept in a file, which the line names.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from cyclopts import CycloptsError
from rich.text import Text

from graphufs import reading
from graphufs.cli.terminal import console
from graphufs.errors import Diverged, UserError
from graphufs.masking import hide

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75
INTERRUPTED, CLOSED_PIPE = 130, 141
DEBUG = "--debug"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Told = tuple[int, str, str]
"""An exit code, the first words of the line, and the rest."""


def finish(
    command: Callable[[list[str]], int | None],
    arguments: Sequence[str] | None = None,
    other: Callable[[Exception], Told | None] = lambda error: None,
) -> NoReturn:
    """Run a command with its arguments, or the program's, and exit.

    `other` tells of errors that this command alone knows. Standard streams that are closed are opened to nowhere first,
    so that no file of ours takes their place.
    """
    given, debug = _without_debug(list(sys.argv[1:] if arguments is None else arguments))
    _usable_streams()
    try:
        code = command(given) or DONE
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        code = CLOSED_PIPE
    except Exception as error:
        if debug:
            print(hide(traceback.format_exc()), end="", file=sys.stderr)
        code, first, words = other(error) or _told(error, debug)
        _say(first, words)
    _leave_output()
    sys.exit(code)


def _told(error: Exception, debug: bool) -> Told:
    if isinstance(error, Diverged):
        return FAILED, "error", str(error)
    if isinstance(error, UserError | CycloptsError):
        return BAD_INPUT, "error", str(error)
    if isinstance(error, OSError):
        hint = "; free some space, or choose another --root" if error.errno in FULL else ""
        names = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        words = error.strerror if error.strerror and not names else f"{names}: {error.strerror or error}"
        words = words if names or error.strerror else f"{type(error).__name__}: {error}"
        if not names and error.errno == errno.ENOENT and _removed_here():
            words = "the folder that this command was started in was removed; change to another one"
        return BAD_INPUT, "error", words + hint
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        name = error.object.encode("unicode_escape").decode()
        words = f"the encoding of this locale, {error.encoding}, has not all letters of {name}"
        return BAD_INPUT, "error", f"{words}; set LC_ALL to C.UTF-8"
    if isinstance(error, MemoryError):
        return FAILED, "error", f"the memory of this machine does not suffice ({_first_line(error)})"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's own words
        return BAD_INPUT, "error", f"{_first_line(error)}: a link leads to itself; put what is meant in its place"
    if "Unable to initialize backend" in str(error):  # JAX's own words, a RuntimeError
        return BAD_INPUT, "error", f"{_first_line(error)}; set JAX_PLATFORMS to cpu or cuda, or leave it out"
    where = "" if debug else _kept(error)
    return FAILED, "error", f"a fault in the program, {type(error).__name__}: {_first_line(error)}{where}"


def _removed_here() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no words"])[0]


def _kept(error: Exception) -> str:
    """Keep a traceback in a file; the words that say where."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="graphufs-", suffix=".log", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            file.write(hide("".join(traceback.format_exception(error))))
    except OSError:
        return f"; {DEBUG} shows where"
    return f"; where it happened is in {file.name}"


def _say(first: str, words: str) -> None:
    """Write the line; what would move the cursor or begin another line in it is spelled out, but for our own."""
    plain = "\n".join(map(reading.in_one_line, hide(words).split("\n")))
    with suppress(OSError, ValueError):  # nobody is there to read it
        console(stderr=True).print(Text.assemble((first, "red"), f" {plain}"), soft_wrap=True)


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without --debug before a --, and whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [one for one in arguments[:end] if one != DEBUG]
    return kept + arguments[end:], len(kept) < end


def _usable_streams() -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):  # a locale without umlauts, say
        sys.stdout.reconfigure(errors="backslashreplace")


def _leave_output() -> None:
    """Where a stream takes nothing more, see that Python does not try it again in the end and change the code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
