"""Reading from object stores: how long a server is waited for, what is asked again, and what is said meanwhile.

One rule for gs://, s3:// and http(s)://, whose clients have as many. Left alone, gcsfs waits for a silent connection
for ever, aiohttp for five minutes; and without a network gcsfs tries for half a minute, then shows its traceback.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from threading import Thread
from types import MethodType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fsspec import get_filesystem_class
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import FsspecStore, WrapperStore

from graphufs.config.credentials import true
from graphufs.errors import UserError
from graphufs.masking import hide
from graphufs.storage.in_flight import TRAFFIC, Limits, Turns

if TYPE_CHECKING:
    from zarr.core.buffer import BufferPrototype

T = TypeVar("T")

logger = logging.getLogger(__name__)

ASK_BUCKET_TYPE = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
"""Read by gcsfs when it is imported: whether it asks for the bucket's type by gRPC before each object, for 60 s where
that does not get through, as behind the firewalls of clusters. Only zonal buckets need it, whose users set it."""
os.environ.setdefault(ASK_BUCKET_TYPE, "false")

TICK = 0.5
"""Seconds between two looks at a request in flight."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a request is made again, the first time and at most; each pause is twice the one before."""
SILENCE = 60.0
"""Seconds between two lines about the same slow store, at least."""
DAY = 86400.0
REFUSALS = (
    FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ImportError, TypeError, ValueError,
    UserError,
)  # fmt: skip
"""Errors that stay when a request is made again."""
TEMPORARY_STATUS = (408, 429)
"""HTTP statuses below 500 that may be others the next time."""


class Unreachable(UserError):
    """A store did not answer, and was asked again for as long as it may take."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds; each is a key of `storage_options`, for all clients alike."""

    connect_timeout: float = 10.0
    """For a connection, and for the very first answer in all. What takes longer later is told as slow."""
    read_timeout: float = 30.0
    """For the next bytes of an answer; then the request is made again."""
    retry_for: float = 300.0
    """For one object in all, once the server has answered anything, with the requests made again."""

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """The times among some `storage_options`, and the other options, which are for fsspec.

        Raises
        ------
        UserError
            If one is no number of seconds between 0 and a day.
        """
        rest = dict(options)
        given = {each.name: rest.pop(each.name) for each in fields(cls) if each.name in rest}
        for name, value in given.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value <= DAY:
                raise UserError(f"storage_options has {name}: {value!r}; give seconds, above 0 and at most {DAY:.0f}")
        return cls(**given), rest


def open_remote(address: str, options: Mapping[str, Any]) -> PatientStore:
    """The store at an address that fsspec knows, to be read; `options` are `storage_options`.

    Raises
    ------
    UserError
        If an option cannot be, or the client cannot be set up in time, as without its server of credentials.
    """
    patience, rest = Patience.split(options)
    limits, rest = Limits.split(rest)
    shown, address = str(address), true(address)
    rest = _with_timeouts(address, rest, patience, limits)
    if address.split("::")[-1].startswith(("gs://", "gcs://")):
        _ask_no_bucket_type()
    for link in address.split("::"):
        get_filesystem_class(link.split("://")[0])  # its import is not the network's time
    begun = time.monotonic()
    store = _within(
        patience.connect_timeout, lambda: FsspecStore.from_url(address, storage_options=rest, read_only=True)
    )
    if store is None:
        raise Unreachable(
            f"the client for {shown} found no credentials within {patience.connect_timeout:g} s; check the network, "
            "or say in storage_options how to log in, such as {token: anon} for a public bucket"
        )
    _ask_once(store)
    return PatientStore(store, shown, patience, Turns(limits.requests), spent=time.monotonic() - begun)


class UpTo(RangeByteRequest):
    """A range of which an object may have the beginning alone."""


class PatientStore(WrapperStore[Store]):
    """A store that asks its server again, up to a limit, and says in one line now and then what it waits for.

    The clients' own timeouts end requests without an answer; here are the retries, and the limit over all.
    """

    def __init__(
        self,
        store: Store,
        address: str,
        patience: Patience,
        turns: Turns,
        *,
        spent: float = 0.0,
        answered: bool = False,
    ) -> None:
        super().__init__(store)
        self._address, self._patience, self._spent, self._answered = address, patience, spent, answered
        self._turns, self._told = turns, -math.inf

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self._address, self._patience, self._turns, spent=self._spent, answered=self._answered)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object, or of a range in it; None where there is none."""
        kind, part = prototype or default_buffer_prototype(), isinstance(byte_range, RangeByteRequest)

        async def get() -> Buffer | None:
            found = await self._store.get(key, kind, byte_range)
            TRAFFIC.received += 0 if found is None else len(found)
            if found is not None and isinstance(byte_range, RangeByteRequest):
                wanted = byte_range.end - byte_range.start
                if len(found) > wanted:  # a server that knows no ranges gave all
                    found = found[byte_range.start : byte_range.end]
                if len(found) != wanted and not isinstance(byte_range, UpTo):
                    raise OSError(f"{len(found)} bytes came instead of {wanted}")
            return found

        answer = await self._ask(key, get, part=part, patient=isinstance(byte_range, UpTo))
        self._turns.came(0 if answer is None else len(answer))
        return answer

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """The bytes of several ranges."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for request in requests:
            yield request[0], await self.get(*request)

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return await self._ask(key, lambda: self._store.exists(key))

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names below a prefix."""

        async def listed() -> list[str]:
            return [name async for name in self._store.list_dir(prefix)]

        for name in await self._ask(prefix, listed):
            yield name

    async def _ask(
        self, what: str, call: Callable[[], Awaitable[T]], *, part: bool = False, patient: bool = False
    ) -> T:
        """What a call gives in the end; `part` says that it is for few bytes, `patient` that others may go first."""
        waited, pause, trouble = 0.0, FIRST_PAUSE, "no answer"
        cause: BaseException | None = None
        while True:
            requests: set[asyncio.Future[T]] = set()
            async with self._turns.turn(patient=patient):
                begun = waited
                try:
                    requests.add(asyncio.ensure_future(call()))
                    while not (ended := [request for request in requests if request.done()]):
                        self._require_time(what, waited, trouble, cause)
                        looked = time.monotonic()
                        await asyncio.wait(requests, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
                        # not more than that: where this process got no turn itself, the server is not to blame
                        waited += min(time.monotonic() - looked, TICK)
                        if part and len(requests) == 1 and waited - begun > max(TICK, self._turns.slow):
                            requests.add(
                                asyncio.ensure_future(call())
                            )  # this connection may be silent; parts are small
                finally:
                    for request in requests:
                        request.cancel()
            causes = [request.exception() for request in ended]
            if None in causes:
                self._answered = True
                if part:
                    self._turns.took(waited - begun)
                return ended[causes.index(None)].result()
            cause = causes[0]
            assert cause is not None
            if lasting(cause):
                raise cause
            trouble = reason(cause)
            self._require_time(what, waited + pause, trouble, cause)
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(2 * pause, LONGEST_PAUSE)

    def _require_time(self, what: str, waited: float, trouble: str, cause: BaseException | None) -> None:
        limit = self._patience.retry_for if self._answered else self._patience.connect_timeout
        if waited + (0.0 if self._answered else self._spent) >= limit:
            raise Unreachable(
                f"{self._address} does not answer: {what} was waited for {limit:g} s ({trouble}); check the address "
                "and the network. Where it is only slow, storage_options with connect_timeout, read_timeout and "
                "retry_for (seconds) wait longer"
            ) from cause
        now = time.monotonic()
        if waited > self._patience.connect_timeout and now - self._told > SILENCE:
            self._told = now
            logger.warning(
                "%s is slow: %s is waited for since %.0f s (%s), for %g s at most",
                self._address,
                what,
                waited,
                trouble,
                limit,
            )


def _ask_once(store: FsspecStore) -> None:
    """Have gcsfs leave it to PatientStore to ask again: it waits for seconds before, each time within a turn."""
    filesystem: Any = store.fs
    once = getattr(getattr(type(filesystem), "_request", None), "__wrapped__", None)
    if once is not None and type(filesystem).__module__.startswith("gcsfs."):
        filesystem._request = MethodType(once, filesystem)


def lasting(error: BaseException) -> bool:
    """Whether an error of a client means that asking again is of no use."""
    if isinstance(error, REFUSALS) or not isinstance(error, Exception):
        return True
    if type(error).__module__.startswith("botocore."):  # without credentials, among others
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

        return not isinstance(error, (ClientError, ConnectionError, HTTPClientError))
    if type(error) is OSError and str(error).startswith("Forbidden"):  # gcsfs for status 403
        return True
    if "Invalid Credentials" in str(error):  # Google says so now and then of valid ones, as gcsfs knows
        return False
    status = str(error.status if hasattr(error, "status") else getattr(error, "code", ""))  # of aiohttp, of gcsfs
    return status.isdecimal() and 400 <= int(status) < 500 and int(status) not in TEMPORARY_STATUS


def reason(error: BaseException) -> str:
    """An error of a client, in one line of some length."""
    words = " ".join(hide(str(error)).split()) or "nothing there"
    return f"{type(error).__name__}: {words if len(words) <= 200 else words[:200] + '...'}"


def _ask_no_bucket_type() -> None:
    """Have fsspec take the client that asks for no bucket's type, also where gcsfs was imported before this module."""
    if os.environ[ASK_BUCKET_TYPE].lower() in ("true", "1"):
        return
    from fsspec import register_implementation
    from gcsfs.core import GCSFileSystem

    for protocol in ("gs", "gcs"):
        register_implementation(protocol, GCSFileSystem, clobber=True)


def _with_timeouts(
    address: str, options: Mapping[str, Any], patience: Patience, limits: Limits | None = None
) -> dict[str, Any]:
    """The options with timeouts for the client of an address, and connections, as far as they say none themselves.

    Of a chain (simplecache::gs://...) the last link is the client, whose options have its name.
    """
    link = address.split("::")[-1]
    protocol = link.split("://")[0]
    own = dict(options if link == address else options.get(protocol, {}))
    if protocol in ("gs", "gcs"):
        own = {"requests_timeout": _aiohttp_timeout(patience), **own}
    elif protocol in ("http", "https"):
        own["client_kwargs"] = {"timeout": _aiohttp_timeout(patience), **own.get("client_kwargs", {})}
    elif protocol in ("s3", "s3a"):
        given: dict[str, float] = {"connect_timeout": patience.connect_timeout, "read_timeout": patience.read_timeout}
        given["max_pool_connections"] = (limits or Limits()).requests  # of its own, it has 10
        own["config_kwargs"] = {**given, **own.get("config_kwargs", {})}
    else:
        return dict(options)
    return own if link == address else {**options, protocol: own}


def _aiohttp_timeout(patience: Patience) -> Any:
    from aiohttp import ClientTimeout

    # no limit to the whole: a large chunk may take its time, as long as it comes
    return ClientTimeout(total=None, sock_connect=patience.connect_timeout, sock_read=patience.read_timeout)


def _within(seconds: float, make: Callable[[], T]) -> T | None:
    """What a function returns, None if it does not end in time. A client may look for credentials when it is made."""
    made: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, daemon=True, name="object-store-client")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    return made[0] if made else None


def _without_traceback(record: logging.LogRecord) -> bool:
    """Whether a record is none of an error that is raised as well."""
    return not record.exc_info


logging.getLogger("gcsfs").addFilter(_without_traceback)
