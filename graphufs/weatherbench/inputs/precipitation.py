"""Precipitation accumulations over 6 and 24 hours, from running totals or from shorter accumulations.

Replay's prateb_ave is a mean rate over the 3 hours that end at its stamp. `graphufs.vocabulary.variables` turns it into
total_precipitation_3hr in metres. Of stamps 6 hours apart each covers only the second half of its 6 hours, and no sum
of them is the rain of 6 or 24 hours: this is refused instead of being passed off as one.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from graphufs.errors import UserError

LEAD = "prediction_timedelta"


def from_running_total(total: xr.DataArray, hours: int, dim: str = LEAD) -> xr.DataArray:
    """What was added to a running total during the last `hours`, at least 0; dimensions and unit as those of `total`.

    Negative differences, which models have, count as none. NaN at the first steps, for which the total before is not
    known (weatherbench2/derived_variables.py, `PrecipitationAccumulation`).
    """
    steps = _steps(total, hours, dim)
    added = total.diff(dim).rolling({dim: steps}).sum()
    added = added.where(~(added < 0), 0.0)
    return added.reindex({dim: total[dim]})


def longer_accumulation(amounts: xr.DataArray, hours: int, amount_hours: int, dim: str = LEAD) -> xr.DataArray:
    """The accumulation over `hours` from accumulations over `amount_hours`; NaN at the first steps.

    Dimensions and unit are those of `amounts`.

    Raises
    ------
    UserError
        If the steps are not as long as what they accumulate: there would be gaps, or rain would count twice.
    """
    step = _step(amounts, dim)
    if step != amount_hours:
        raise UserError(
            f"{amounts.name} accumulates {amount_hours} h but comes every {step:g} h: its sum is not the precipitation "
            f"of {hours} h. Take data with a step of {amount_hours} h"
        )
    return amounts.rolling({dim: _steps(amounts, hours, dim)}).sum()


def _step(values: xr.DataArray, dim: str) -> float:
    """The step of an axis of time in hours."""
    steps = np.diff(values[dim].values) / np.timedelta64(1, "h")
    if not steps.size or not (steps == steps[0]).all():
        raise UserError(f"accumulating {values.name} needs at least two evenly spaced steps along {dim}")
    return float(steps[0])


def _steps(values: xr.DataArray, hours: int, dim: str) -> int:
    """How many steps make up some hours."""
    count = hours / _step(values, dim)
    if not count.is_integer() or not 1 <= count <= values.sizes[dim]:
        raise UserError(
            f"{hours} h are no whole number of the {values.sizes[dim]} steps of {_step(values, dim):g} h of "
            f"{values.name}"
        )
    return int(count)
