"""What becomes of variables when the globe is mirrored at the equator. Imports no array library.

The mirrored atmosphere follows the same laws: northward components and vorticity change their sign, and the season is
the one half a year later, which the sine and cosine of the year's progress say with theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphufs.vocabulary.physical_bounds import QUANTITIES
from graphufs.vocabulary.variables import DERIVED_FORCINGS, weatherbench_name

CHANGE_SIGN = frozenset(
    {
        "v_component_of_wind",
        "10m_v_component_of_wind",
        "100m_v_component_of_wind",
        "vgrd_hyblev1",
        "vflx_ave",
        "vo",
        "vorticity",
        "potential_vorticity",
        "year_progress_cos",
        "year_progress_sin",
    }
)
"""By WeatherBench2's names, or Replay's where it has none."""


def changes_sign(name: str) -> bool:
    """Whether a variable changes its sign in the mirror."""
    return weatherbench_name(name) in CHANGE_SIGN


def unknown(names: Iterable[str]) -> list[str]:
    """The variables of which it is not known what a mirror makes of them, sorted."""
    return sorted(set(names) - set(QUANTITIES) - set(DERIVED_FORCINGS))
