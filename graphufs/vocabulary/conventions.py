"""Whose conventions scores follow where WeatherBench2 and WeatherBench-X differ.

| | WeatherBench2 | WeatherBench-X |
|---|---|---|
| ACC | mean over initial times of the correlations | ratio of the means over initial times |
| activity | has none; here about the spatial mean | not about a mean |
| outermost latitude cells | reach to the poles | reach half a cell beyond the last row, at most to the poles |
| land | weighted by the land fraction | every point with any land counts fully |
| regions | with extra-tropics | without these; five more over land masses |
| SEEPS | a value equal to the dry threshold is in no category; 0.1 < p < 0.85 | it is dry; 0.1 <= p <= 0.85 |

Each state and each output carries the name of its convention.
"""

from __future__ import annotations

from typing import Literal, get_args

Convention = Literal["WeatherBench2", "WeatherBench-X"]

DEFAULT: Convention = "WeatherBench2"

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

EARTH_RADIUS = 1000 * (6357 + 6378) / 2
"""Metres, as WeatherBench2 has it."""


DRY_METRES = {"total_precipitation_24hr": 0.25e-3, "total_precipitation_6hr": 0.1e-3}
"""Below this accumulation, in metres, it is dry."""
