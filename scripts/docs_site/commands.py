"""The reference of a command line, from its parser."""

from __future__ import annotations

import re

TABLE_OF_CONTENTS = re.compile(r"## Table of Contents\n.*?(?=\n\*\*|\n## )", re.DOTALL)
"""What cyclopts puts first: the site has a table of contents of its own."""
BOTH_NAMES = re.compile(r"(?m)^(\* `[A-Z][A-Z_-]*), --[a-z][a-z-]*`")
"""An argument, which cyclopts shows with the option by which it may be given too."""


def page(program: str) -> str:
    """The page of `graphufs` or `graphufs-jobs`: every command with its arguments and options.

    Parameters
    ----------
    program
        The command's name.

    Returns
    -------
    str
        Markdown; a command's heading is its full name.
    """
    import graphufs.cli.main  # noqa: F401  all commands come with it, or with the next
    import jobs.cli.main  # noqa: F401
    from graphufs.cli.app import app as graphufs_app
    from jobs.cli.app import app as jobs_app

    app = {"graphufs": graphufs_app, "graphufs-jobs": jobs_app}[program]
    text = app.generate_docs(output_format="markdown", recursive=True)
    text = TABLE_OF_CONTENTS.sub("", text)
    text = BOTH_NAMES.sub(r"\1`", text)
    text = re.sub(r"(?m)^ {8,}(?=\S)", "    ", text)  # the second line of a help text, which would be code
    return re.sub(r" \*\[default: (\(\)|\{\}|False|None)\]\*", "", text)
