"""How much is asked at once: as much as brings more, within limits."""

from __future__ import annotations

import asyncio

import pytest

from graphufs.errors import UserError
from graphufs.storage.in_flight import AGAIN, AT_FIRST, Limits, Turns


def test_limits_come_from_the_storage_options() -> None:
    limits, rest = Limits.split({"token": "anon", "requests": 8, "reading_mib": 100})
    assert (limits, rest) == (Limits(8, 100), {"token": "anon"})
    assert [limits.reads(size) for size in (1, 2**24, 2**25, 2**40)] == [8, 6, 3, 1]
    assert Limits.split({}) == (Limits(), {})


@pytest.mark.parametrize("options", [{"requests": 0}, {"requests": "8"}, {"reading_mib": True}, {"requests": 10**6}])
def test_limits_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"storage_options has \w+: .*; give a whole number from 1 to \d+"):
        Limits.split(options)


def test_more_is_asked_at_once_as_long_as_that_brings_more() -> None:
    turns = Turns(256)
    assert turns.limit == AT_FIRST == 32
    for rate, limit in ((100, 64), (200, 128), (205, 128), (100, 96), (105, 96), (300, 192), (600, 256), (6000, 256)):
        turns._bytes, turns._since = rate, 0.0
        turns._look(1.0)
        assert turns.limit == limit


def test_after_a_while_one_more_is_tried() -> None:
    turns = Turns(256)
    for _ in range(AGAIN + 1):
        turns._bytes, turns._since = 100, 0.0
        turns._look(1.0)
    assert turns.limit == 2 * AT_FIRST + 1


def test_where_nobody_waits_the_rate_says_nothing_of_the_limit() -> None:
    turns = Turns(256)
    for _ in range(1000):
        turns.came(10**6)
    assert turns.limit == AT_FIRST


def test_what_begins_something_lets_all_others_go_first() -> None:
    turns, order = Turns(1), []

    async def ask(name: int, patient: bool) -> None:
        async with turns.turn(patient=patient):
            await asyncio.sleep(0)
            order.append(name)

    async def all_of_them() -> None:
        await asyncio.gather(*(ask(number, number % 2 == 1) for number in range(6)))

    asyncio.run(all_of_them())
    assert order == [0, 2, 4, 1, 3, 5]


def test_some_turns_are_always_for_what_begins_something() -> None:
    turns, most = Turns(8), 0

    async def ask(patient: bool) -> None:
        nonlocal most
        async with turns.turn(patient=patient):
            await asyncio.sleep(0)
            if turns._waiting:
                most = max(most, turns._begun)
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*(ask(number >= 200) for number in range(300)))

    asyncio.run(all_of_them())
    assert most == 2 and (turns._active, turns._begun) == (0, 0)


def test_what_takes_several_times_as_long_as_others_is_slow() -> None:
    turns = Turns(8)
    assert turns.slow == float("inf")
    for _ in range(100):
        turns.took(0.2)
    assert turns.slow == pytest.approx(1.0)


def test_never_more_are_in_flight_than_the_limit_and_whoever_gives_up_takes_no_turn() -> None:
    turns, now, most = Turns(3), 0, 0

    async def ask() -> None:
        nonlocal now, most
        async with turns.turn():
            now += 1
            most = max(most, now)
            try:
                await asyncio.sleep(0.001)
            finally:
                now -= 1
        turns.came(1)

    async def all_of_them() -> None:
        asked = [asyncio.ensure_future(ask()) for _ in range(30)]
        await asyncio.sleep(0)
        for one in (asked[1], asked[5], asked[6]):  # the first of these is in flight, the others wait
            one.cancel()
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(one, asyncio.CancelledError) for one in ended) == 3
        now_free = [asyncio.ensure_future(ask()) for _ in range(3)]
        await asyncio.gather(*now_free)

    asyncio.run(all_of_them())
    assert most == 3 and turns._active == 0 and not turns._waiting
