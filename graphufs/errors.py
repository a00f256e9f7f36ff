"""The error of everything a user can put right."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from graphufs.masking import hide


class UserError(Exception):
    """Bad input or a missing piece. The message names the thing, the value, what is allowed and what to do.

    No credential stays in it, whatever the words it is made of repeat.
    """

    def __init__(self, *words: Any) -> None:
        super().__init__(*(hide(one) if isinstance(one, str) else one for one in words))


class CannotOpen(UserError):
    """A store is not there, or cannot be reached."""


class Diverged(UserError):
    """A training's loss is not finite or ran away."""


class Stopped(Exception):
    """Raised inside a step when `should_stop()` turned true and all work so far is saved."""


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Around, or as decorator of, what reads things from elsewhere through libraries: their errors refuse the thing.

    Raises
    ------
    UserError
        In the place of any other error, of which there are as many as libraries and ways to be wrong.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise UserError(f"{what} cannot be used ({type(error).__name__}: {reason or 'no words'})") from error


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
