"""All commands with names that the locale's encoding may not have: `python -m tests.hostile.in_this_locale FOLDER`.

The encoding is chosen when Python starts, so this is a program of its own. In the folder is a finished root.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.conftest import TINY
from tests.hostile.running import run
from tests.hostile.test_surroundings import DONE, NOTHING, require_plain

FOREIGN = {str(TINY): "Größe.yaml", "r": "rö", "nothere": "näin", "x": "ä", "m": "ö", "nothere.yaml": "näin.yaml"}


def main() -> None:
    for command, words in (*NOTHING, *DONE):
        line = tuple(os.fsdecode(FOREIGN.get(word, word).encode()) for word in words)  # as a shell hands them over
        ended = run(command, *line, folder=Path(sys.argv[1]))
        require_plain((command, line), ended)
        if command == "graphufs" and line[0] == "show":
            assert ended.code == 0, (line, ended)


if __name__ == "__main__":
    main()
