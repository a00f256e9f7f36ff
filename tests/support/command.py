"""The command line `graphufs` called in the test's own process, which has imported all that a new one imports first."""

from __future__ import annotations

import contextlib
import io
import subprocess

from graphufs.cli import main


def graphufs(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What the command does with these words: its exit code and what it printed, as a process of its own would."""
    words = list(map(str, arguments))
    code, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(["graphufs", *words], code, out.getvalue(), err.getvalue())
