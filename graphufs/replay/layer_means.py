"""Thick layers: means of a store's native ones between interfaces, weighted by their thickness.

    mean[k] = sum_j x[j] delz[j] / sum_j delz[j]    over the native layers j between the interfaces k and k+1,

and the thickness of such a layer is the sum. As the later prototypes of graph-ufs do it, whose sixteen layers lie
between interfaces from 200 to 1000 hPa, 50 hPa apart. Interfaces are those over a ground at 1000 hPa, and the nearest
native ones are taken: layers stay hybrid, and follow the ground as the native ones do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphufs.errors import UserError
from graphufs.replay.pressure_levels import replay_layers
from graphufs.replay.source import ReplayStore
from graphufs.replay.variable_facts import VariableFacts

THICKNESS = "delz"
"""A layer's thickness in Replay [m], negative in all layers alike."""


class LayerMeans(ReplayStore):
    """A store of the atmosphere whose layers are means over native ones between `interfaces`, hPa, ascending.

    Raises
    ------
    UserError
        If the store has no layers or thickness, or none of its layers lies between two of the interfaces.
    """

    def __init__(self, store: ReplayStore, interfaces: Sequence[float]) -> None:
        super().__init__(store._dataset, store.url, store.component, store.allowances, store.dimensions)
        self.limits = store.limits
        if THICKNESS not in store.names:
            raise UserError(
                f"{store.url} has no {THICKNESS}, which weights the means between data.interfaces; leave these out and "
                "name data.levels"
            )
        vertical = store.facts(THICKNESS).vertical
        if vertical is None:
            raise UserError(f"{THICKNESS} of {store.url} has no layers, so there are no means between data.interfaces")
        native = store.levels(vertical)
        edges = _native_interfaces(native, np.asarray(interfaces, np.float64))
        self._vertical = vertical
        self._means = (edges[1:] + edges[:-1]) / 2
        self._layers = [np.flatnonzero((native > top) & (native <= bottom)) for top, bottom in pairwise(edges)]
        for number, layers in enumerate(self._layers):
            if not layers.size:
                raise UserError(
                    f"{store.url} has no layer between the interfaces {interfaces[number]:g} and "
                    f"{interfaces[number + 1]:g} hPa; take interfaces that are farther apart in data.interfaces"
                )

    def levels(self, dimension: str) -> np.ndarray:
        """The middles of the interfaces that were taken, hPa, float64 [level]."""
        return self._means if dimension == self._vertical else super().levels(dimension)

    def metadata(self, names: Iterable[str]) -> dict[str, Any]:
        """As of the store, and of the thickness, which has a part in all of them."""
        return super().metadata({*names, THICKNESS})

    def bytes_per_chunk_row(self, name: str, levels: np.ndarray | None = None, *, travelling: bool = False) -> int:
        """Bytes to decode for one stamp at some levels [level]: of the native layers, and of their thickness."""
        if self.facts(name).vertical != self._vertical:
            return super().bytes_per_chunk_row(name, levels, travelling=travelling)
        native = np.concatenate([self._layers[level] for level in self._chosen(levels)])
        size = super().bytes_per_chunk_row
        return sum(size(one, native, travelling=travelling) for one in {name, THICKNESS})

    def read(self, name: str, stamps: np.ndarray | None = None, levels: np.ndarray | None = None) -> np.ndarray:
        """As of any store, float32 [time, level, lat, lon]; the sum of a thickness, the mean of all else."""
        facts: VariableFacts = self.facts(name)
        if facts.vertical != self._vertical:
            return super().read(name, stamps, levels)
        chosen = self._chosen(levels)
        native = np.unique(np.concatenate([self._layers[level] for level in chosen]))
        axis = facts.dimensions.index(self._vertical)
        weights = super().read(THICKNESS, stamps, native).astype(np.float64)
        values = None if name == THICKNESS else super().read(name, stamps, native).astype(np.float64)
        found = []
        for level in chosen:
            places = np.searchsorted(native, self._layers[level])
            thickness = weights.take(places, axis)
            total = thickness.sum(axis)
            found.append(total if values is None else (values.take(places, axis) * thickness).sum(axis) / total)
        return np.stack(found, axis).astype(np.float32)

    def _chosen(self, levels: np.ndarray | None) -> list[int]:
        return list(range(len(self._layers))) if levels is None else [int(level) for level in levels]


def with_layers(store: ReplayStore, interfaces: Sequence[float]) -> ReplayStore:
    """The store, with layers between interfaces in hPa where there are any.

    Raises
    ------
    UserError
        If its layers cannot be taken together so, see `LayerMeans`.
    """
    return LayerMeans(store, interfaces) if interfaces else store


def _native_interfaces(native: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The interfaces that stand for the wanted ones, hPa [interface]: Replay's nearest, if all its layers are there."""
    layers = replay_layers()
    if len(native) != len(layers.reference):
        return wanted
    layers.find(np.sort(native).tolist())
    own = layers.a + layers.b * 1000.0
    return np.array([own[np.argmin(np.abs(own - value))] for value in wanted])
