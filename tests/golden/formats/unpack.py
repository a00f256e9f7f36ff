"""A root that version 0.1.0 left, unpacked wherever a test wants it.

It was made in `MADE_IN`, and what a job needs to begin says so: `script.sh` (the folder of the attempt, and for Slurm
the working directory) and `payload.pkl` (the root). A live root never moves, so that is no fault; a fixture must. So
these two kinds of files are rewritten on the way, and nothing else is: wherever else the old place stands (results,
logs, the weights a challenger began with, which are part of its hash) no reader goes there.
"""

from __future__ import annotations

import io
import pickletools
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

ARCHIVE = Path(__file__).with_name("root-0.1.0.tar.xz")
MADE_IN = "/tmp/graphufs-0.1.0"
"""Where the archive's folders lay when they were written."""


AIRFLOWS = Path(__file__).with_name("airflow-0.1.0.tar.xz")
"""What an Airflow wrote into the same root afterwards, and `airflow.sql`, its database."""


def unpack(folder: Path, *more: Path) -> Path:
    """Unpack the archive, and more that were made upon it, into a folder; return the root in it."""
    for archive in (ARCHIVE, *more):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    for path in folder.glob("root/jobs/*/attempts/*/script.sh"):
        path.write_text(path.read_text().replace(MADE_IN, str(folder)))
    for path in folder.glob("root/jobs/*/attempts/**/*.pkl"):
        path.write_bytes(with_other_text(path.read_bytes(), {MADE_IN: str(folder)}))
    return folder / "root"


def with_other_text(pickled: bytes, changes: Mapping[str, str]) -> bytes:
    """A pickle in which texts are replaced within its strings. Nothing of it is loaded, so no class need be there.

    Strings carry their length, so a plain replacement would break them. Frames carry theirs and may be left out.
    """
    out, stream = io.BytesIO(), io.BytesIO(pickled)
    operations = list(pickletools.genops(stream))
    ends = [*(start for _, _, start in operations[1:]), len(pickled)]
    for (operation, value, start), end in zip(operations, ends, strict=True):
        if operation.name == "FRAME":
            continue
        if isinstance(value, str) and operation.name.endswith("BINUNICODE") and any(old in value for old in changes):
            for old, new in changes.items():
                value = value.replace(old, new)
            text = value.encode("utf-8", "surrogatepass")
            out.write(b"X" + struct.pack("<I", len(text)) + text)
        else:
            out.write(pickled[start:end])
    return out.getvalue()
