"""Stores of fields or statistics, found by their URL and opened as they lie there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from graphufs import reading
from graphufs.errors import UserError
from graphufs.masking import Secret, address
from graphufs.storage.zarr_io import is_remote, open_zarr

EXTRA_COORDINATES = ("cftime", "ftime")


def clean_url(url: str) -> str:
    """The URL in the one spelling used: gcs:// becomes gs://, file:// and ~ become absolute paths.

    Raises
    ------
    UserError
        If the URL is empty, or has a line break or another character that nobody sees.
    """
    if isinstance(url, Secret):
        return address(clean_url(url.true))
    if not url.strip():
        raise UserError("data.source.url is empty; give gs://..., s3://..., https://..., a path, or embedded")
    if not url.isprintable():
        raise UserError(f"data.source.url is {reading.shown(url)}; write it without line breaks and control characters")
    if url.startswith("gcs://"):
        return "gs://" + url.removeprefix("gcs://")
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    return url if is_remote(url) else str(Path(url).expanduser().absolute())


def undecoded(url: str, storage_options: Mapping[str, Any] | None, what: str) -> tuple[str, xr.Dataset]:
    """A store as it lies there, and its URL as messages have it; `what` is what they call the store.

    The coordinates that Replay has besides its stamps are left out: one has a wrong calendar, and neither is needed.

    Raises
    ------
    UserError
        If it cannot be opened.
    """
    url = clean_url(url)
    return url, open_zarr(
        url, storage_options=storage_options, what=what, decode_cf=False, drop_variables=EXTRA_COORDINATES
    )
