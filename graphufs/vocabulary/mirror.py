"""What becomes of variables when the globe is mirrored at the equator. Imports no array library.

The mirrored atmosphere follows the same laws: northward components and vorticity change their sign, and the season is
the one half a year later, which the sine and cosine of the year's progress say with theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphufs.vocabulary.variables import BY_REPLAY, DERIVED_FORCINGS, replay_name

CHANGE_SIGN = frozenset(
    {
        "vgrd",
        "vgrd10m",
        "100m_v_component_of_wind",
        "vorticity",
        "year_progress_cos",
        "year_progress_sin",
    }
)
"""By Replay's names, or WeatherBench2's where Replay has none."""
KEEP_SIGN = frozenset({*BY_REPLAY, *DERIVED_FORCINGS, "dswrf_avetoa", "mean_sea_level_pressure"}) - CHANGE_SIGN
"""Scalars and eastward components. Of variables in neither set nothing is known."""


def changes_sign(name: str) -> bool:
    """Whether a variable changes its sign in the mirror."""
    return replay_name(name) in CHANGE_SIGN


def unknown(names: Iterable[str]) -> list[str]:
    """The variables of which it is not known what a mirror makes of them, sorted."""
    return sorted(name for name in names if replay_name(name) not in CHANGE_SIGN | KEEP_SIGN)
