"""Blosc chunks of which the end is missing are noticed.

Blosc itself does not look at how many bytes it is given: with lz4, zarr's default, it decodes what lies behind them in
memory. A chunk is short when a connection ended early and no length was announced, or a file was cut off.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numcodecs
import zarr.registry
from numcodecs.compat import ensure_contiguous_ndarray
from zarr.codecs import BloscCodec

from graphufs.errors import UserError

HEADER_BYTES = 16
"""Of a Blosc chunk; its last four are the chunk's length in bytes, little-endian, the header included."""


class WholeBlosc(numcodecs.Blosc):  # type: ignore[misc]
    """Blosc that refuses a chunk which is shorter than its header says."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The values of a chunk, as bytes.

        Raises
        ------
        UserError
            If its end is missing.
        """
        given = ensure_contiguous_ndarray(buf).view("u1")
        whole = int.from_bytes(given[HEADER_BYTES - 4 : HEADER_BYTES].tobytes(), "little")
        if given.size < max(whole, HEADER_BYTES):
            raise UserError(
                f"a chunk was cut off: it has {given.size} bytes of {max(whole, HEADER_BYTES)}. Read it again, or "
                "restore the store it belongs to"
            )
        return super().decode(buf, out)


class WholeBloscCodec(BloscCodec):
    """The same for stores of zarr's format 3."""

    @cached_property
    def _blosc_codec(self) -> WholeBlosc:
        config = super()._blosc_codec.get_config()
        return WholeBlosc(**{key: value for key, value in config.items() if key != "id"})


@lru_cache(maxsize=1)
def require() -> None:
    """Have zarr read all Blosc chunks so from now on."""
    numcodecs.register_codec(WholeBlosc)
    zarr.registry.register_codec("blosc", WholeBloscCodec)
    zarr.config.set({"codecs.blosc": f"{WholeBloscCodec.__module__}.{WholeBloscCodec.__qualname__}"})
