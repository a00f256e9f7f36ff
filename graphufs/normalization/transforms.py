"""Functions applied to a variable before it is normalised, and undone in forecasts: the logarithm of humidity.

    seen = forward(transform, humidity)          # log(max(humidity, floor)), what statistics and network are about
    humidity = inverse(transform, seen)          # exp(seen)

Both take NumPy and JAX arrays, also inside jit, keep their precision, and leave NaN as it is. The space of transformed
values is meant wherever code speaks of the emulator's fields, its state and its statistics; prepared data, forecasts
and scores are in physical units. Values below the floor come back as the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from graphufs.config.data import Transform

Values = TypeVar("Values", bound=Any)
Transforms = Mapping[str, Transform]
"""By variable."""


def forward(transform: Transform, values: Values) -> Values:
    """Physical values -> log(max(values, floor)), the array kind and precision kept."""
    namespace: Any = values.__array_namespace__()
    transformed: Values = namespace.log(namespace.maximum(values, transform.floor))
    return transformed


def inverse(transform: Transform, values: Values) -> Values:
    """Transformed values -> physical ones, exp(values), which are positive but may lie below the floor."""
    physical: Values = values.__array_namespace__().exp(values)
    return physical


def apply(
    transforms: Transforms, fields: Mapping[str, Values], way: Callable[[Transform, Values], Values] = forward
) -> dict[str, Values]:
    """`forward` or `inverse` of those fields that have a transform; the others as they are."""
    return {name: way(transforms[name], values) if name in transforms else values for name, values in fields.items()}


def statistics_names(transforms: Transforms, names: Iterable[str]) -> dict[str, str]:
    """The names under which stores hold the statistics of variables: `log_spfh` for those of the logarithm of spfh.

    So NOAA publishes them, and so statistics of a field and of its logarithm are never taken for one another.
    """
    return {name: f"{transforms[name].function}_{name}" if name in transforms else name for name in names}


def statistics_attributes(transform: Transform, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A variable's attributes in a store -> those of the statistics of its transformed field."""
    changed = {**attributes, "transform": transform.function}
    if "long_name" in attributes:
        changed["long_name"] = f"natural logarithm of {attributes['long_name']}"
    if "units" in attributes:
        changed["units"] = f"ln(re 1 {attributes['units']})"  # as UDUNITS spells it
    return changed
