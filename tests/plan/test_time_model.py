"""The model of time: what a kernel takes, and what a program spends its time on."""

from __future__ import annotations

import pytest

from graphufs.errors import UserError
from graphufs.plan.fit import largest
from graphufs.plan.hlo import Kernel
from graphufs.plan.target import Target, names
from graphufs.plan.time_model import REACHED_BANDWIDTH, REACHED_FLOP, estimate

H100 = Target.named("h100")


def kernel(**changes: object) -> Kernel:
    return Kernel(**{"name": "k", "operation": "fusion", "shape": "f32[1]", "bytes": 0, "flop": {}, **changes})  # type: ignore[arg-type]


def test_a_kernel_takes_the_longer_of_its_traffic_and_its_products_and_is_started():
    moving = estimate([kernel(bytes=10**9, flop={"bf16": 1e9})], H100)
    assert moving.seconds == pytest.approx(1e9 / (REACHED_BANDWIDTH * H100.bandwidth) + H100.launch)
    assert moving.limit == "traffic"
    multiplying = estimate([kernel(bytes=10**6, flop={"bf16": 1e12, "f32": 1e12})], H100)
    rates = sum(1e12 / (REACHED_FLOP * H100.rates[kind]) for kind in ("bf16", "f32"))
    assert multiplying.seconds == pytest.approx(rates + H100.launch) and multiplying.limit == "FLOP"


def test_many_small_kernels_are_limited_by_starting_them():
    found = estimate([kernel(bytes=100, calls=1000), kernel(name="other")], H100)
    assert (found.kernels, found.bytes, found.limit) == (1001, 100_000, "launches")
    assert found.longest[0]["name"] == "k" and found.seconds == pytest.approx(sum(found.by_limit.values()))


def test_an_exchange_takes_the_slowest_link_and_none_where_a_device_is_alone():
    exchange = kernel(operation="all-reduce", exchanged=10**9)
    alone, node, nodes = (estimate([exchange], H100, devices=d, nodes=n) for d, n in ((1, 1), (8, 1), (8, 2)))
    assert alone.by_limit["exchange"] == 0
    assert node.by_limit["exchange"] == pytest.approx(2 * 7 / 8 * 1e9 / H100.link)
    assert nodes.by_limit["exchange"] == pytest.approx(2 * 15 / 16 * 1e9 / H100.network)


def test_every_target_is_complete_and_says_where_its_figures_are_from():
    assert names() == ["a100", "gb200", "h100", "h200"]
    for name in names():
        target = Target.named(name)
        assert target.memory > 7e10 and 1e12 < target.bandwidth < 1e13 and set(target.rates) == {"bf16", "f32"}
        assert f"device_memory_size: {target.memory}" in target.xla
        assert len(target.sources) >= 2


def test_an_unknown_device_is_refused_with_those_there_are():
    with pytest.raises(
        UserError, match=r"no device 'h1000' to plan for \(did you mean h100\?\).*a100, gb200, h100, h200"
    ):
        Target.named("h1000")


@pytest.mark.parametrize(
    ("available", "size", "compiled"),
    [
        (200, 16, [16]),  # all at once: one compilation
        (100, 8, [1, 8, 16]),  # 10 a sample and 5: nine would fit, eight divide
        (20, 1, [1, 16]),
        (10, None, [1, 16]),
    ],
)
def test_the_largest_number_of_samples_that_fits_is_found_with_few_compilations(available, size, compiled):
    asked = []

    def needed(samples: int) -> int:
        asked.append(samples)
        return 5 + 10 * samples

    found = largest(16, available, needed)
    assert found.size == size and sorted(asked) == compiled and sorted(found.needed) == compiled
    if len(compiled) > 1:
        assert found.extrapolated == (available - 5) // 10


def test_what_was_extrapolated_is_compiled_and_not_taken_where_it_does_not_fit():
    memory = {16: 165, 8: 120, 4: 45, 1: 15}  # eight need more than the line says
    assert largest(16, 100, memory.__getitem__).size == 4


def test_a_given_device_batch_size_is_the_most_that_is_tried():
    assert largest(16, 1000, lambda samples: samples, most=4).size == 4
