"""The commands in the documentation: taken from its code blocks, checked by the real parsers, run on tiny."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
FENCE = re.compile(r"^\s*(```|~~~)(\w*)")
PROMPT = re.compile(r"^\s*(\$ )?")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
OTHER_LANGUAGES = ("python", "yaml", "mermaid", "json")
PROGRAMS = ("graphufs", "graphufs-jobs", "make", "python", "python3")

NOT_RUN = {
    "a cluster, or a site file of the reader's": r"hpc|testcluster|--site debug|--site SITE|serve-ssh",
    "a job that is there": r"\b(KEY|big|in-two)\b",
    "a network, or the source itself": r"gs://|https?://|MLFLOW_|graphcast_curriculum",
    "files of the reader's": (
        r"\b(FORECAST|ENSEMBLE|FILE|CHECKPOINT|ERA5|STORE)\b|/shared/|\.npz|\.ckpt|\bA B\b|demo-\w{12}"
    ),
    "a champion, and a challenger that a round made": r"\bMODEL\b|rollback|retrain|compare-models|\bdecide\b",
    "the trained model that it goes on from": r"\bdemo_ensemble\b",
    "CUDA's compiler": r"graphufs plan",
}
"""Why a command is checked but not run: what it needs, and how that shows."""


class Command(NamedTuple):
    """A command in the documentation: the page, the line's number, and its words."""

    page: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"

    @property
    def program(self) -> str:
        """The program's name without its folder."""
        return self.words[0].rsplit("/", 1)[-1]

    @property
    def reason_not_to_run(self) -> str | None:
        """What it needs that a test has not; None: nothing."""
        text = shlex.join(self.words)
        return next((reason for reason, sign in NOT_RUN.items() if re.search(sign, text)), None)


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of indented and fenced blocks of a page's text, with their numbers, other languages left out."""
    fence: str | None = None
    blank, block = True, False
    for number, line in enumerate(text.splitlines(), 1):
        if found := FENCE.match(line):
            fence = None if fence is not None else found[2]
        elif fence is not None:
            if fence not in OTHER_LANGUAGES:
                yield number, line
        elif line.startswith("    ") and (block or blank):
            block = True
            yield number, line
        elif line.strip():
            block = False
        blank = not line.strip()


def commands_of(page: Path) -> list[Command]:
    """The commands of a page that this repository has a say in."""
    found, held, first = [], "", 0
    for number, line in code_lines(page.read_text(encoding="utf-8")):
        first = first if held else number
        held += PROMPT.sub("", line, count=1)
        if held.endswith("\\"):
            held = held[:-1]
            continue
        for part in re.split(r"&&|\|(?=\s)|;", re.sub(r"(^|\s)# .*", "", held)):
            words = _words(part)
            if words and words[0].rsplit("/", 1)[-1] in PROGRAMS:
                found.append(Command(str(page.relative_to(REPOSITORY)), first, tuple(words)))
        held = ""
    return found


def _words(part: str) -> list[str]:
    """The words of a shell command without assignments and what is around a command substitution."""
    part = re.sub(r'^\s*eval "\$\((.*)\)"', r"\1", part)
    try:
        words = shlex.split(part)
    except ValueError:  # an apostrophe in what a program printed
        return []
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    return words


def all_commands() -> list[Command]:
    """The commands of all pages."""
    return [command for page in PAGES for command in commands_of(page)]
