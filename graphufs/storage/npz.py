"""Files of arrays from elsewhere, read only where each array is as large as the file says it is.

The header of an array in a file of a few bytes may claim terabytes, and compressed zeros unpack to a thousand times
their size; both are seen before memory is taken.
"""

from __future__ import annotations

import math
import os
import zipfile
from typing import Any

import numpy as np

from graphufs.errors import UserError

MOST_ARRAYS = 10_000
"""Arrays of a file; the largest networks have some hundreds."""
RATIO, ROOM = 20, 64 * 2**20
"""How many times its own size a file may unpack to; and bytes that each may."""
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name, of the shapes and types they were written with; nothing is unpickled.

    Raises
    ------
    UserError
        If the file is missing, torn, no npz, or claims more than it has.
    """
    try:
        _require_modest(path)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    # a damaged zip ends in many ways: zlib.error, NotImplementedError for an unknown compression, RuntimeError for
    # a password
    except Exception as error:
        raise UserError(f"{os.fspath(path)} is not a readable npz file: {error}") from error


def _require_modest(path: str | os.PathLike[str]) -> None:
    """See that no array claims to be larger than the bytes that are there for it."""
    with open(path, "rb") as opened, zipfile.ZipFile(opened) as file:
        opened.seek(0)
        if not opened.read(2) == b"PK":  # zipfile finds an archive behind other bytes, too; numpy would unpickle those
            raise ValueError("it begins with something else; the file is damaged")
        members = file.infolist()
        unpacked = sum(member.file_size for member in members)
        allowed = max(ROOM, RATIO * os.stat(path).st_size)
        if len(members) > MOST_ARRAYS or unpacked > allowed:
            raise ValueError(
                f"it has {len(members):,} arrays of {unpacked:,} bytes; {MOST_ARRAYS:,} of {allowed:,} are allowed"
            )
        for member in members:
            if member.compress_type not in PACKINGS:  # those of others would unpack a block before its size is seen
                raise ValueError(f"{member.filename} is packed in another way than numpy does")
            with file.open(member) as array:
                version = np.lib.format.read_magic(array)
                if version not in HEADERS:
                    raise ValueError(f"{member.filename} is of version {version} of numpy's format")
                shape, _, dtype = HEADERS[version](array)
                claimed = math.prod(shape) * dtype.itemsize
                there = member.file_size - array.tell()
            if min(shape, default=0) < 0 or claimed != there:
                raise ValueError(
                    f"{member.filename} claims {claimed:,} bytes for its shape {shape}, and has {there:,}; the file "
                    "is damaged"
                )
