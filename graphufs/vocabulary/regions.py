"""The boxes of WeatherBench2's and WeatherBench-X's regions. Imports no array library: experiments name regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphufs.errors import UserError, did_you_mean
from graphufs.vocabulary.conventions import DEFAULT, Convention

LAND = "_land"
"""The ending of a land version's name."""


class Box(NamedTuple):
    """A box in degrees, its borders included. A box from 345 to 15 degrees east reaches over the meridian."""

    south: float = -90.0
    north: float = 90.0
    west: float = 0.0
    east: float = 360.0


_SHARED: dict[str, tuple[Box, ...]] = {
    "global": (Box(),),
    "tropics": (Box(-20, 20),),
    "northern-hemisphere": (Box(20, 90),),
    "southern-hemisphere": (Box(-90, -20),),
    "europe": (Box(35, 75, 347.5, 42.5),),
    "north-america": (Box(25, 60, 240, 285),),
    "north-atlantic": (Box(25, 65, 290, 350),),
    "north-pacific": (Box(25, 60, 145, 230),),
    "east-asia": (Box(25, 60, 102.5, 150),),
    "ausnz": (Box(-45, -12.5, 120, 175),),
    "arctic": (Box(60, 90),),
    "antarctic": (Box(-90, -60),),
}

REGIONS: dict[Convention, dict[str, tuple[Box, ...]]] = {
    "WeatherBench2": _SHARED | {"extra-tropics": (Box(-90, -20), Box(20, 90))},
    "WeatherBench-X": _SHARED
    | {
        "northern-africa": (Box(5, 32.5, 347.5, 37.5),),
        "southern-africa": (Box(-30, 5, 12.5, 37.5),),
        "south-america": (Box(-40, 5, 285, 315),),
        "west-asia": (Box(15, 60, 42.5, 102.5),),
        "south-east-asia": (Box(-12.5, 25, 95, 125),),
    },
}
"""The boxes of each region; a region is their union (weatherbench2/config of evaluate.py; WeatherBench-X's
public_benchmark). Every name also stands for a land version with the ending `_land`."""


def all_regions(convention: Convention = DEFAULT, *, land: bool = True) -> tuple[str, ...]:
    """The names of all regions, land versions last; without these if `land` is False."""
    names = tuple(REGIONS[convention])
    return names + tuple(name + LAND for name in names) if land else names


def check_regions(names: Sequence[str], convention: Convention = DEFAULT) -> None:
    """Check that all names are known.

    Raises
    ------
    UserError
        If one is not, naming the nearest one, or if a name comes twice.
    """
    known = all_regions(convention)
    for position, name in enumerate(names):
        if name not in known:
            raise UserError(
                f"there is no region {name} in {convention}{did_you_mean(name, known)}; known are "
                f"{', '.join(REGIONS[convention])}, each also with the ending {LAND}"
            )
        if name in names[:position]:
            raise UserError(f"the region {name} is named more than once")
