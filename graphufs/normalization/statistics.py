"""Statistics: what scales inputs and targets, and the three stores in which Replay users know them.

A folder holds `mean_by_level.zarr`, `stddev_by_level.zarr` and `diffs_stddev_by_level.zarr`. A variable in them has no
dimension, or its vertical one (pfull, with native values as coordinate), and keeps its attributes in Replay. Of a
variable with a transform (graphufs.normalization.transforms) they hold the statistics of the transformed field, as
`log_<name>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import xarray as xr

from graphufs.config.credentials import true
from graphufs.errors import UserError
from graphufs.masking import address
from graphufs.replay.levels import match_levels
from graphufs.replay.opening import clean_url, undecoded
from graphufs.storage.checksums import Damaged, differences, growing_damage, is_checked, listed, read_checked
from graphufs.storage.zarr_io import store_damage
from graphufs.vocabulary.variables import check_variables

PROVENANCE = "provenance.json"
"""What the statistics of a folder were made of; with the checksums of their files, it says that they are complete."""
STORES = {"mean": "mean_by_level.zarr", "std": "stddev_by_level.zarr", "diffs_std": "diffs_stddev_by_level.zarr"}


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean, standard deviation and standard deviation of differences over the time step, float64 [level] by variable.

    The length is 1 for variables without levels; `diffs_std` has no static variables. Of variables with levels there
    are the `native` ones (hPa, or m in the ocean), float64 [level], and the name of the vertical dimension.
    """

    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    diffs_std: dict[str, np.ndarray]
    native: dict[str, np.ndarray] = field(default_factory=dict)
    vertical: dict[str, str] = field(default_factory=dict)

    def save(
        self,
        folder: Path,
        attributes: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
        provenance: Mapping[str, str] | None = None,
        stored_as: Mapping[str, str] | None = None,
    ) -> None:
        """Write the three stores into an existing folder.

        `attributes` are by kind (mean, std, diffs_std), then variable; `provenance` is for all three stores;
        `stored_as` has names in the stores by variable, where they are others
        (graphufs.normalization.transforms.statistics_names).
        """
        for kind, store in STORES.items():
            values: dict[str, np.ndarray] = getattr(self, kind)
            dataset = xr.Dataset(attrs=dict(provenance or {}))
            for name, array in sorted(values.items()):
                notes = dict((attributes or {}).get(kind, {}).get(name, {}))
                stored = (stored_as or {}).get(name, name)
                if name in self.vertical:
                    dimension = self.vertical[name]
                    dataset = dataset.assign_coords({dimension: (dimension, self.native[name])})
                    dataset[stored] = xr.DataArray(array, dims=(dimension,), attrs=notes)
                else:
                    dataset[stored] = xr.DataArray(array[0], attrs=notes)
            # Format 2 with consolidated metadata, as published: older tools read nothing newer.
            dataset.to_zarr(folder / store, mode="w", zarr_format=2, consolidated=True)

    @classmethod
    def open(
        cls,
        folder_or_url: Path | str,
        names: Iterable[str],
        levels: Sequence[float] = (),
        storage_options: Mapping[str, Any] | None = None,
        level_match: Literal["nearest", "exact"] = "nearest",
        stored_as: Mapping[str, str] | None = None,
    ) -> Self:
        """Read variables, and of those with levels the wanted ones in their order, from our or published stores.

        Each must have a mean and a standard deviation; those without differences (static ones) are left out of
        `diffs_std`. `stored_as` has names in the stores by variable, where they are others: {"spfh": "log_spfh"}.

        Raises
        ------
        UserError
            If a store, a variable or a level is not there; also if of a variable stored under another name only the
            plain statistics are.
        """
        place = clean_url(str(folder_or_url) if isinstance(folder_or_url, Path) else folder_or_url)
        stored = {name: (stored_as or {}).get(name, name) for name in names}
        native: dict[str, np.ndarray] = {}
        vertical: dict[str, str] = {}
        found: dict[str, dict[str, np.ndarray]] = {}
        for kind, store in STORES.items():
            url = address(f"{true(place).rstrip('/')}/{store}")
            _, dataset = undecoded(url, storage_options, "the statistics")
            if kind != "diffs_std":
                _check_transformed(stored, dataset, url)
                check_variables(stored.values(), map(str, dataset.data_vars), url)
            found[kind] = {}
            for name, in_store in stored.items():
                if in_store not in dataset.data_vars:
                    continue
                array = dataset[in_store]
                if array.dtype.kind not in "iuf":
                    raise UserError(f"{in_store} of {url} holds {array.dtype}, no numbers")
                if array.ndim == 0:
                    found[kind][name] = np.array([array.values], np.float64).reshape(1)
                    continue
                dimension = _vertical(array, url)
                own = dataset[dimension].values.astype(np.float64)
                chosen = match_levels(own, levels, level_match, where=f"{in_store} of {url}")
                found[kind][name] = array.values.astype(np.float64)[chosen]
                native[name], vertical[name] = own[chosen], dimension
        return cls(found["mean"], found["std"], found["diffs_std"], native, vertical)

    def updated(self, other: Statistics) -> Statistics:
        """The variables of both, those of `other` where both have one."""
        return Statistics(
            self.mean | other.mean,
            self.std | other.std,
            self.diffs_std | other.diffs_std,
            self.native | other.native,
            self.vertical | other.vertical,
        )

    def check(self, targets: Iterable[str], where: str) -> None:
        """Refuse statistics that cannot scale: not finite, or a standard deviation of zero.

        A standard deviation of differences of zero is refused only for `targets`, which are all it scales.

        Raises
        ------
        UserError
            Naming the variable, the level and the value.
        """
        scaled = set(targets)
        for kind, what in (
            ("mean", "mean"),
            ("std", "standard deviation"),
            ("diffs_std", "standard deviation of differences"),
        ):
            values: dict[str, np.ndarray] = getattr(self, kind)
            if kind == "diffs_std" and scaled - values.keys():
                raise UserError(f"{where} has no {what} of {', '.join(sorted(scaled - values.keys()))}")
            for name, array in values.items():
                if kind == "diffs_std" and name not in scaled:
                    continue
                bad = ~np.isfinite(array) if kind == "mean" else ~(np.isfinite(array) & (array > 0))
                if bad.any():
                    index = int(np.argmax(bad))
                    level = f" at {self.native[name][index]:.7g}" if name in self.native else ""
                    raise UserError(
                        f"the {what} of {name}{level} over {where} is {array[index]:g}, which cannot scale anything; "
                        "take the variable (or level) out of the experiment, or choose a longer normalization period"
                    )


def statistics_damage(folder: Path) -> str | None:
    """What is wrong with the statistics that `graphufs normalize` wrote into a folder, or None."""
    try:
        files = listed(read_checked(folder / PROVENANCE))
    except FileNotFoundError:
        return f"{folder / PROVENANCE} is missing"
    except Damaged as error:
        return str(error)
    if files is not None:
        return next(differences(folder, files, thorough=True), None)
    return next((damage for store in STORES.values() if (damage := store_damage(folder / store)) is not None), None)


def moments_damage(folder: Path) -> list[str]:
    """What is wrong with the months' moments that statistics were made of: of none, or one after the other.

    Each version that gives statistics checksums gives these some before.
    """
    promised = any(map(is_checked, folder.parent.glob(f"[!.]*/{PROVENANCE}"))) and any(folder.glob("*.npz"))
    return growing_damage(folder, promised=promised)


def _check_transformed(stored: Mapping[str, str], dataset: xr.Dataset, url: str) -> None:
    """Refuse to look for other variables where only the statistics of the plain one are there."""
    for name, in_store in stored.items():
        if in_store not in dataset.data_vars and name in dataset.data_vars:
            raise UserError(
                f"{url} has statistics of {name} but none of its transformed field, {in_store}, which data.transforms "
                f"asks for; leave out normalization.url, so that they are computed, or data.transforms.{name}"
            )


def _vertical(array: xr.DataArray, url: str) -> str:
    if array.ndim != 1 or array.dims[0] not in array.coords:
        raise UserError(
            f"{array.name} of {url} has the dimensions {array.dims}; statistics have none or one vertical dimension "
            "with a coordinate"
        )
    return str(array.dims[0])
