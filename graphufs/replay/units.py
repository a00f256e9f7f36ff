"""Units as stores spell them, read with pint, and the conversion to the units a variable is prepared in."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from graphufs.errors import UserError
from graphufs.vocabulary.physical_bounds import QUANTITIES

SILENT = frozenset(
    {"", "1", "-", "xxx", "n/a", "na", "none", "numerical", "number", "unitless", "units", "unknown", "nondim"}
)
"""Labels that say nothing, as Replay has them too, in lower case: the variable's usual units are taken."""

# What pint would take for something else ("mb" for millibarn, "C" for coulomb) or does not know, in lower case.
_SPELLINGS = {
    "pascal": "pa pascal pascals",
    "hectopascal": "hpa hectopascal hectopascals mb mbar mbars millibar millibars",
    "kilopascal": "kpa",
    "kelvin": "k kelvin kelvins degk deg_k degree_kelvin degrees_kelvin degree_k degrees_k",
    "degree_Celsius": "c degc deg_c celsius degree_c degrees_c degree_celsius degrees_celsius °c",
    "degree_Fahrenheit": "f degf deg_f fahrenheit degree_f degrees_f degree_fahrenheit degrees_fahrenheit °f",
    "meter": "m meter meters metre metres gpm",
    "second": "s sec secs second seconds",
    "watt": "w watt watts",
    "knot": "kt kts knot knots",
    "psu": "psu ppt",
    "dimensionless": "frac fraction proportion",
    "degree": "deg degree degrees °",
    "percent": "% percent",
}
SPELLINGS = {label: name for name, labels in _SPELLINGS.items() for label in labels.split()}

_TRUE_DIRECTION = re.compile(r"\bdeg(ree)?s?_?(north|south|east|west|true|n|s|e|w|t)\b", re.IGNORECASE)
_DEGREES_OF = re.compile(r"\bdeg(ree)?s?\s+(?=[CFK]\b)")
_BRACKETS = re.compile(r"\[.*?\]|\(.*?\)$")
_WORD = re.compile(r"[A-Za-z_°%µ]+")
# "m s-1", "m2" and "m^-3" are spelt out; the exponent of 1e-3 is none of a unit.
_EXPONENT = re.compile(r"(?<=[A-Za-z°%])(?<![0-9][eE])\^?([+-]?\d+)")
_NO_UNITS = re.compile(r"[{}:;=,'\"`$&|<>!?@#\\]")
"""Signs that no units are made of, as of an attribute that is a mapping; pint reads past some of them."""
LONGEST = 60
"""Characters of a label that is read at all."""
# One digit, not in a tower: 10**10**10 would be computed for ever.
_TOWER = re.compile(r"(\*\*|\^)(?!\s*[+-]?\d(?![\d.]|\s*(\*\*|\^)))|\)\s*(\*\*|\^)|[⁰¹²³⁴⁵⁶⁷⁸⁹]{2}")


class Conversion(NamedTuple):
    """A value in the wanted units is `scale` times the value in the store's, plus `offset`."""

    scale: float = 1.0
    offset: float = 0.0

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The values [...] in the wanted units, computed in float64 and in the type they came in."""
        if self == Conversion():
            return values
        return (values.astype(np.float64) * self.scale + self.offset).astype(values.dtype)


def conversion(given: str, wanted: str, what: str) -> Conversion:
    """How to come from the units a store gives to the wanted ones.

    A label that says nothing ("", "xxx", "numerical") stands for the wanted units. `what` is what messages call the
    thing that has the units.

    Raises
    ------
    UserError
        If the label is not known, or is of another kind of quantity.
    """
    if given.strip().lower() in SILENT:
        return Conversion()
    if len(given) > LONGEST:
        raise UserError(_refusal(given[:LONGEST] + "...", wanted, what, f"{len(given)} characters are no units"))
    spelt, aim = _spelt_out(given), _spelt_out(wanted)
    if spelt == aim:
        return Conversion()
    if _NO_UNITS.search(spelt):
        raise UserError(_refusal(given, wanted, what, "no units"))
    if _TOWER.search(spelt):
        raise UserError(_refusal(given, wanted, what, "an exponent is one digit"))
    try:
        one = _registry().parse_expression(spelt)
        zero = 0 * one if not hasattr(one, "units") else _registry().Quantity(0.0, one.units)
        start, end = (float(_registry().Quantity(value).to(aim).magnitude) for value in (zero, one))
    except RecursionError:
        raise UserError(_refusal(given, wanted, what, "nested too deeply")) from None
    # The grammar's own errors share no base below Exception.
    except Exception as error:
        raise UserError(_refusal(given, wanted, what, str(error)[:120] or type(error).__name__)) from error
    if not (np.isfinite(start) and np.isfinite(end)) or start == end:
        raise UserError(_refusal(given, wanted, what, "no units"))
    return Conversion(end - start, start)


def variable_conversion(name: str, given: str, where: str, *, accepted: bool = False) -> Conversion:
    """How to come from the units given of a Replay variable to those it is prepared in; of an unknown one none.

    `where` is what messages call the store; values of units that cannot be read are taken as they are if `accepted`.

    Raises
    ------
    UserError
        If the units cannot be converted and that is not accepted.
    """
    if name not in QUANTITIES:
        return Conversion()
    try:
        return conversion(given, QUANTITIES[name].units, f"{name} of {where}")
    except UserError as error:
        if accepted:
            return Conversion()
        raise UserError(
            f"{error}. Correct its attribute units, or name {name} in data.accept_implausible to take its values as "
            "they are"
        ) from error


def _refusal(given: str, wanted: str, what: str, why: str) -> str:
    return f"{what} is in {given!r}, which cannot be converted to {wanted} ({why})"


def _spelt_out(label: str) -> str:
    text = _TRUE_DIRECTION.sub("degree", _DEGREES_OF.sub("deg", _BRACKETS.sub("", label).strip()))
    text = _EXPONENT.sub(r"**\1", text)
    return _WORD.sub(lambda word: SPELLINGS.get(word[0].lower(), "meter" if word[0] == "M" else word[0]), text)


@cache
def _registry() -> Any:
    import pint  # takes a second; most stores spell their units as Replay does

    registry: Any = pint.UnitRegistry()
    registry.define("psu = 0.001 = practical_salinity_unit")
    return registry
