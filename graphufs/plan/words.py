"""What `graphufs plan` says, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from graphufs.plan.time_model import REACHED_BANDWIDTH, REACHED_FLOP

GIB, MIB = 2**30, 2**20
LIMITED_BY = {
    "traffic": "moving bytes between the card's memory and its cores",
    "FLOP": "matrix products",
    "exchange": "exchanges between cards",
    "launches": "starting kernels",
    "reading": "reading data",
}


def heading(result: dict[str, Any]) -> str:
    """What is planned, for what."""
    device, grid = result["device"], result["grid"]
    count = result["devices"] * result["nodes"]
    nodes = f" on {result['nodes']} nodes" if result["nodes"] > 1 else ""
    return (
        f"{result['experiment']} on {count} x {device['title']}{nodes}: {result['precision']}, "
        f"{result['parameters'] / 1e6:,.2f} million parameters, {grid['points']} points (from {grid['from']})"
    )


def table(result: dict[str, Any]) -> Table:
    """The programs: what each needs, moves and computes on one card, and how long it is predicted to take."""
    shown = Table(title="Each program, on one card", title_justify="left")
    for name in ("program", "GiB", "GB moved", "TFLOP", "kernels", "predicted ms", "limited by"):
        shown.add_column(name, justify="left" if name in ("program", "limited by") else "right", no_wrap=True)
    forecast, rows = result["forecast"], []
    if result["stages"]:
        size = result["device_batch_size"]
        at_once = size["size"] or 1
        rows += [(f"update of {name}, {at_once} at once", one) for name, one in result["stages"].items()]
        rows.append((f"validation of {size['share']}", result["validation"]))
    rows.append((f"forecast, {forecast['initial_times']} x {forecast['steps']} steps", forecast))
    for name, one in rows:
        numbers = one["memory"]["total"] / GIB, one["bytes"] / 1e9, one["flop"] / 1e12
        told = [f"{number:,.2f}" for number in numbers]
        shown.add_row(name, *told, f"{one['kernels']:,}", f"{1e3 * one['seconds']:,.1f}", one["limit"])
    return shown


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The rest, line by line."""
    if "not_compiled" in result:
        yield result["not_compiled"]
        for name, one in result["matrix_products"].items():
            yield (
                f"{name}: {result['updates'][name]:,} updates, {one['flop'] / 1e12:,.2f} TFLOP of matrix products each "
                f"on one card, {1e3 * one['seconds_at_least']:,.1f} ms at least; {_hours(one['hours_at_least'])} in "
                "all at least"
            )
    else:
        if result["stages"]:
            yield from _memory(result)
            yield from _times(result)
        yield (
            "These times are predicted, not measured: for each kernel of the compiled program the longer of its bytes "
            f"by {REACHED_BANDWIDTH:.0%} of the card's bandwidth and its FLOP by {REACHED_FLOP:.0%} of its rate, and "
            f"the time to start it. {result['accuracy']}"
        )
    disk = result["disk"]
    yield (
        f"On disk: data {_bytes(disk['data'])} ({disk['stamps']:,} stamps), a checkpoint {_bytes(disk['checkpoint'])} "
        f"(those kept: {_bytes(disk['checkpoints'])}), forecasts at most {_bytes(disk['forecasts'])}"
    )
    yield from (f"Note: {warning}" for warning in result["warnings"])


def _memory(result: dict[str, Any]) -> Iterator[str]:
    size, device = result["device_batch_size"], result["device"]
    tried = ", ".join(f"{count}: {int(needed) / GIB:.1f} GiB" for count, needed in size["needed"].items())
    room = f"{device['usable'] / GIB:.1f} GiB that JAX takes of the card's {device['memory'] / GIB:.1f}"
    if size["size"] is None:
        yield f"Memory: not even one sample fits the {room} (compiled for {tried})"
    else:
        yield (
            f"Memory: the largest device_batch_size that fits is {size['size']} of a card's {size['share']} samples of "
            f"a batch (compiled for {tried}; there are the {room}). Extrapolated, not compiled: about "
            f"{size['extrapolated']:,} samples at once would fit if a batch had as many"
        )


def _times(result: dict[str, Any]) -> Iterator[str]:
    training = result["training"]
    for name, stage in training["stages"].items():
        yield (
            f"{name}: {stage['updates']:,} updates of {1e3 * stage['seconds_of_an_update']:,.1f} ms, "
            f"{_hours(stage['hours'])}; most of it goes into {LIMITED_BY[stage['limit']]}"
        )
    yield (
        f"The whole training: {_hours(training['hours'])}, {training['gpu_hours']:,.2f} GPU-hours; of it validation "
        f"{_hours(training['validation_hours'])}, validation forecasts {_hours(training['validation_forecast_hours'])}"
    )


def _hours(hours: float) -> str:
    return f"{hours:,.2f} h" if hours >= 0.1 else f"{3600 * hours:,.1f} s"


def _bytes(amount: int) -> str:
    return f"{amount / GIB:,.2f} GiB" if amount >= GIB / 10 else f"{amount / MIB:,.2f} MiB"
