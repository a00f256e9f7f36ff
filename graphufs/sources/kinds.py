"""The kinds of sources: which one a store is, and how it is opened.

Each kind has its own module, with `opened`, which gives a dataset laid out as `graphufs.sources.analysis` says. Stores
of Replay, and the embedded world's, are opened by `graphufs.replay.source` as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphufs.config.data import Kind
from graphufs.errors import UserError, refused
from graphufs.replay.decoding import decoded
from graphufs.replay.opening import undecoded
from graphufs.replay.source import COMPONENTS, Allowances, ReplayStore
from graphufs.sources import weatherbench
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
    url, raw = undecoded(url, storage_options, "the source")
    if kind == "auto":
        own = COMPONENTS[component]
        is_replay = {own.latitude, own.longitude} <= set(map(str, raw.dims))
        kind = "weatherbench2" if component == "fv3" and not is_replay and weatherbench.recognises(raw) else "replay"
    if kind == "replay":
        return ReplayStore(decoded(raw, url), url, component, allowances)
    if component != "fv3":
        raise UserError(f"data.source.kind is {kind}, an analysis of the atmosphere; leave data.source.component out")
    return ReplayStore(weatherbench.opened(raw, url), url, component, allowances, DIMENSIONS)
