"""The kinds of sources: which one a store is, and how it is opened.

Each kind has its own module, with `opened`, which gives a dataset laid out as `graphufs.sources.analysis` says. Stores
of Replay, and the embedded world's, are opened by `graphufs.replay.source` as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr
import zarr

from graphufs.config.data import Kind
from graphufs.errors import CannotOpen, UserError, refused
from graphufs.replay.decoding import decoded
from graphufs.replay.opening import clean_url, undecoded
from graphufs.replay.source import COMPONENTS, Allowances, ReplayStore
from graphufs.sources import anemoi, data_store, weatherbench
from graphufs.sources.analysis import DIMENSIONS


@refused("the source's metadata")
def open_source_at(
    url: str,
    kind: Kind,
    component: str,
    storage_options: Mapping[str, Any] | None = None,
    allowances: Allowances | None = None,
) -> ReplayStore:
    """Open the source at a URL: of the kind that is named, or of the one that it looks like.

    Raises
    ------
    UserError
        If it cannot be opened, or is no source of that kind.
    """
    url = clean_url(url)
    if kind not in ("auto", "replay") and component != "fv3":
        raise UserError(f"data.source.kind is {kind}, an analysis of the atmosphere; leave data.source.component out")
    kind, dataset = _opened(url, "replay" if component != "fv3" else kind, storage_options)
    if kind == "replay":
        return ReplayStore(decoded(dataset, url), url, component, allowances)
    return ReplayStore(dataset, url, component, allowances, DIMENSIONS)


@refused("the analysis")
def open_analysis(url: str) -> xr.Dataset:
    """An analysis of whatever layout, as `graphufs.sources.analysis` has it; units are as the store has them.

    Raises
    ------
    UserError
        If it cannot be opened, or is none.
    """
    url = clean_url(url)
    kind, dataset = _opened(url, "auto", None)
    if kind == "replay":
        raise UserError(f"{url} is no analysis of a layout that is known: it has no time, latitude and longitude")
    return dataset


def _opened(url: str, kind: Kind, storage_options: Mapping[str, Any] | None) -> tuple[Kind, xr.Dataset]:
    """What lies at a URL: its kind, and its dataset; Replay's is not decoded yet."""
    if kind == "cds" or (kind == "auto" and data_store.recognises(url)):
        return "cds", data_store.opened(url)
    if kind == "anemoi":
        return kind, anemoi.opened(anemoi.group_at(url, storage_options), url)
    try:
        _, raw = undecoded(url, storage_options, "the source")
    except CannotOpen:  # also where arrays do not say what their dimensions are
        group = _anemoi(url, storage_options) if kind == "auto" else None
        if group is None:
            raise
        return "anemoi", anemoi.opened(group, url)
    if kind == "auto":
        kind = _kind_of(raw)
    if kind == "anemoi":
        return kind, anemoi.opened(anemoi.group_at(url, storage_options), url)
    return kind, weatherbench.opened(raw, url) if kind == "weatherbench2" else raw


def _kind_of(raw: xr.Dataset) -> Kind:
    """What an undecoded zarr store is by its dimensions and arrays; Replay's where it is none of the others."""
    own = COMPONENTS["fv3"]
    if {own.latitude, own.longitude} <= set(map(str, raw.dims)):
        return "replay"
    if set(anemoi.ARRAYS) <= set(map(str, raw.variables)):
        return "anemoi"
    return "weatherbench2" if weatherbench.recognises(raw) else "replay"


def _anemoi(url: str, storage_options: Mapping[str, Any] | None) -> zarr.Group | None:
    try:
        group = anemoi.group_at(url, storage_options)
    except CannotOpen:
        return None
    return group if anemoi.recognises(group) else None
