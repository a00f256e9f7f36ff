"""Zarr stores in folders, of which only regular files are read: a FIFO or a device would keep the reader waiting."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from graphufs import reading


class RegularFiles(LocalStore):
    """A folder's store that refuses to read what is no file.

    Raises
    ------
    OSError
        From each method that reads, for a FIFO, a socket or a device in the place of a file.
    """

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a file, None where there is none."""
        _require_file(self.root / key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a file, None where there is none."""
        _require_file(self.root / key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """The bytes of parts of files, None where there is none."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            _require_file(self.root / key)
        return await super().get_partial_values(prototype, wanted)


def _require_file(path: Path) -> None:
    if not path.is_file() and path.exists() and not path.is_dir():
        reading.open_file(path).close()  # which says what it is
