"""How many bytes Zstandard's frames unpack to at most, by their headers alone (RFC 8878, 3.1.1).

A frame whose writer did not know its size has none in its header; its blocks say how much they can hold.
"""

from __future__ import annotations

MAGIC = 0xFD2FB528
SKIPPED = range(0x184D2A50, 0x184D2A60)
"""The magic numbers of frames that hold no data."""
LARGEST_BLOCK = 2**17
RUN, COMPRESSED = 1, 2
"""Types of blocks: one byte repeated, and what says no size. Others are as they are."""


def most_bytes(packed: bytes, enough: int = 2**62) -> int:
    """An upper bound of the bytes that frames unpack to; of what is no frame, nothing is counted.

    Where it is more than `enough`, it need not be all of it.
    """

    def number(at: int, width: int) -> int:
        return int.from_bytes(packed[at : at + width], "little")

    at = total = 0
    while at + 4 <= len(packed) and total <= enough:
        magic, at = number(at, 4), at + 4
        if magic in SKIPPED:
            at += 4 + number(at, 4)
            continue
        if magic != MAGIC:
            break
        descriptor = number(at, 1)
        single, checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
        width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
        at += 1 + (not single) + (0, 1, 2, 4)[descriptor & 3]
        said, at = number(at, width) + (256 if width == 2 else 0), at + width
        held, last = 0, False
        while not last and at + 3 <= len(packed) and held <= enough:
            header = number(at, 3)
            last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            held += LARGEST_BLOCK if kind == COMPRESSED else size
            at += 3 + (1 if kind == RUN else size)
        at += 4 * checksum
        total += said if width else held
    return total
