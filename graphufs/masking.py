"""Credentials in what people write: told from the rest, kept apart, and masked wherever they would be shown or stored.

The one rule. A credential is held as a `Secret`, a string that reads `***` for all who print, store or hash it, and
whose `true` value is asked for where a store is opened. What was seen as a credential once is also taken out of
messages, such as those of the clients of object stores, that would repeat it: `hide`.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

MASK = "***"
"""What stands in the place of a credential."""
SHORTEST = 6
"""Characters of a credential that is taken out of messages; shorter ones would be found in ordinary words."""
CREDENTIAL = re.compile(r"token|secret|passw|pwd|sig|key|auth|cred|sas|cookie", re.IGNORECASE)
"""In the name of an option: even a number is a credential then."""
PLAIN_OPTIONS = frozenset(
    "access account_name addressing_style block_size cache_storage cache_type consistency default_cache_type "
    "endpoint_url location profile project protocol region region_name remote_protocol signature_version "
    "target_protocol".split()
)
"""Options of fsspec's clients whose text is public; that of all others is masked."""
PLAIN_TOKENS = ("anon", "browser", "cache", "cloud", "google_default")
"""Values of gcsfs's `token` that are words, not tokens."""
CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")
"""Protocols of which what stands before an @ names a container."""
PLAIN_PARAMETERS = ("generation", "version", "versionid")
"""Parameters of an address that are public."""
SIGNED = re.compile(
    CREDENTIAL.pattern + r"|session|expires|policy|^x-(amz|goog)-|"
    r"^(se|si|sip|ske|skoid|sks|skt|sktid|skv|sp|spr|sr|srt|ss|st|sv)$",
    re.IGNORECASE,
)
"""Parameters of an address that are credentials, or parts of a signature (the short ones are Azure's)."""

_known: set[str] = set()


class Secret(str):
    """Text with credentials in it that reads as it may be shown; the `true` value has them."""

    true: Any

    def __new__(cls, shown: str, true: Any) -> Secret:
        made = super().__new__(cls, shown)
        made.true = true
        return made

    def __getnewargs__(self) -> tuple[str, Any]:  # type: ignore[override]
        return str(self), self.true


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Options of a client, as in `storage_options`: what may be a credential becomes a `Secret`."""
    return {name: _option(str(name), value) for name, value in given.items()}


def _option(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return options(value)
    if isinstance(value, list):
        return [_option(name, one) for one in value]
    if value is None or isinstance(value, bool | Secret) or value in ("", MASK):
        return value
    if isinstance(value, str):
        if name in PLAIN_OPTIONS or (name == "token" and value in PLAIN_TOKENS):
            return address(value)
    elif not CREDENTIAL.search(name):
        return value
    remember(str(value))
    return Secret(MASK, value)


def address(text: str) -> str:
    """An address as it may be shown: a `Secret` where it has a user, a password, or parameters that are not public.

    Credentials become `***`. Other parameters keep their difference, by a few digits of their hash: they may say what
    is read. Paths stay as they are.
    """
    if "://" not in text or isinstance(text, Secret):
        return text
    shown = re.sub(r"(?:(\w+)://)([^/?#\s]*)@", _user, text)
    head, mark, query = shown.partition("?")
    if mark:
        shown = head + mark + re.sub(r"[^&;#]+", _parameter, query)
    return shown if shown == text else Secret(shown, text)


def _user(found: re.Match[str]) -> str:
    protocol, user = found.groups()
    if protocol.lower() in CONTAINERS:
        return found.group()
    name, colon, password = user.partition(":")
    remember(password if colon else name)
    return f"{protocol}://{MASK}@"


def _parameter(found: re.Match[str]) -> str:
    name, equals, value = found.group().partition("=")
    if not equals:
        name, value = "", name
    if value.startswith(MASK) or not value or name.lower() in PLAIN_PARAMETERS:
        return found.group()
    remember(value)
    kept = "" if SIGNED.search(name) else hashlib.sha256(value.encode()).hexdigest()[:8]
    return f"{name}{equals}{MASK}{kept}"


def place(text: str) -> str:
    """An address without its credentials: what it is that is read, however one gets there. To be hashed."""
    shown = str(address(text))
    if "://" not in shown or MASK not in shown:
        return shown
    head, mark, query = shown.replace(f"://{MASK}@", "://").partition("?")
    kept = "&".join(one for one in query.split("&") if not one.endswith(f"={MASK}"))
    return head + mark + kept if kept else head


def document(content: Any) -> Any:
    """A document as it may be shown, such as an experiment as it was written: options and addresses masked."""
    if isinstance(content, dict):
        return {
            key: options(value) if key == "storage_options" and isinstance(value, dict) else document(value)
            for key, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [document(one) for one in content]
    return str(address(content)) if isinstance(content, str) else content


def override(text: str) -> str:
    """An override such as `data.source.url=...` as it may be shown, also one that is not written well."""
    return text.partition("storage_options")[0] + f"storage_options={MASK}" if "storage_options" in text else hide(text)


def remember(value: str) -> None:
    """Have a credential taken out of messages from now on."""
    for one in {value, unquote(value)}:
        if len(one) >= SHORTEST and MASK not in one:
            _known.add(one)


def hide(text: str) -> str:
    """Text without the credentials that are known to this process, and with the addresses in it masked."""
    if "://" in text:
        text = re.sub(r"\w+://[^\s'\"<>(),]+", lambda found: str(address(found.group())), text)
    for one in sorted(_known, key=len, reverse=True):
        text = text.replace(one, MASK)
    return text


def hide_in_output() -> None:
    """Hide credentials in all that is printed from now on, by whatever library: for processes whose output is kept."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Hiding):
            setattr(sys, name, _Hiding(stream))


class _Hiding:
    """A stream that hides credentials in what is written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(hide(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def cleaned(error: BaseException) -> BaseException:
    """An error that may be shown with all its causes: itself, or where they tell a credential, one that does not."""
    told = "".join(traceback.format_exception(error))
    return error if hide(told) == told else RuntimeError(hide(told))
