"""The error of everything a user can put right."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class UserError(Exception):
    """Bad input or a missing piece. The message names the thing, the value, what is allowed and what to do."""


class CannotOpen(UserError):
    """A store is not there, or cannot be reached."""


class Diverged(UserError):
    """A training's loss is not finite or ran away."""


class Stopped(Exception):
    """Raised inside a step when `should_stop()` turned true and all work so far is saved."""


def did_you_mean(
    name: str,
    known: Iterable[str],
    *,
    first: Iterable[str] = (),
    most: int = 1,
    similarity: float = 0.6,
    shown: Mapping[str, str] | None = None,
) -> str:
    """The part of a message that offers the known names most like `name`, at most `most`, after those in `first`.

    Such as " (did you mean europe?)"; empty where nothing is near, which `similarity` (0 to 1) decides. `shown` has
    what to write for a known name, where it is not the name itself.
    """
    close = get_close_matches(name, list(known), most, similarity)
    near = dict.fromkeys([*first, *((shown or {}).get(each, each) for each in close)])
    return f" (did you mean {' or '.join(near)}?)" if near else ""
