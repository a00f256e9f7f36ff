"""What a compiled program does, read from XLA's text of it (`compiled.as_text()`): its kernels, and what each moves.

A kernel is an instruction of the entry, or of a loop's body, that is more than a name for something there is already.
It moves the bytes of its operands and results: of an operand that is only sliced or gathered from, what is taken, and
of a result that is an array updated in place, the update. Caches are left out, and so is all arithmetic but that of
matrix products. A loop's kernels count as often as it runs.

    kernels, warnings = kernels_of(compiled.as_text())
    sum(kernel.calls * kernel.bytes for kernel in kernels)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

SHAPE = re.compile(r"\b([a-z]+[0-9]*[a-z0-9]*)\[([\d,]*)\]")
NAMES = re.compile(r"%([\w.\-]+)")
CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
FREE = {
    *("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "opt-barrier", "domain"),
    *("partition-id", "replica-id", "add-dependency"),
}
EXCHANGES = {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast"}
FUSED = re.compile(r"kernel_(?P<kind>f32|bf16)_flop_(?P<flop>\d+)_loads_(?P<loads>\d+)")
"""What graphufs.model.kernels writes into the names of its kernels."""
GEMM = ("__cublas", "__cudnn$conv")


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    rest: str
    """The operands' text and the attributes."""


@dataclass
class Computation:
    """Instructions in their order, by name; `root` is the name of the one whose result is the computation's."""

    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    def users(self, name: str) -> list[Instruction]:
        """The instructions that read one, those that read it through a bitcast in the bitcast's place."""
        found: list[Instruction] = []
        for one in self.instructions.values():
            if name in one.operands:
                found += self.users(one.name) if one.operation == "bitcast" else [one]
        return found

    def shape(self, name: str) -> str:
        """The shape of an instruction's result."""
        return self.instructions[name].shape if name in self.instructions else ""


@dataclass(frozen=True)
class Kernel:
    """What is started once: how often, and what it moves and computes each time."""

    name: str
    operation: str
    shape: str
    bytes: int
    flop: dict[str, float]
    """Of matrix products, by the type of their factors: bf16 (or another of 16 bits or less), f32."""
    exchanged: int = 0
    """Bytes that a device shares with the others."""
    again: int = 0
    """Bytes of operands that a fused kernel loads more than once, from a cache where they are still there."""
    calls: int = 1


def size(shape: str) -> int:
    """The bytes of a shape, a tuple's parts added up."""
    return sum(_item_bytes(kind) * math.prod(_dimensions(dims)) for kind, dims in SHAPE.findall(shape))


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """The computations of a module by name, and the name of the entry."""
    computations: dict[str, Computation] = {}
    current, entry = Computation(), ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            current = computations.setdefault(head[2], Computation())
            entry = head[2] if head[1] else entry
        elif found := re.match(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$", line):
            shape, rest = _split_shape(found[3])
            operation, _, rest = rest.partition("(")
            operands = tuple(NAMES.findall(rest[: _closing(rest)]))
            current.instructions[found[2]] = Instruction(found[2], shape, operation.strip(), operands, rest)
            current.root = found[2] if found[1] else current.root
    return computations, entry


def kernels_of(text: str) -> tuple[list[Kernel], list[str]]:
    """The kernels of a compiled program, and what could not be counted, in words."""
    computations, entry = parse(text)
    warnings: list[str] = []
    if not entry:
        return [], ["the program's text has no entry; XLA writes it otherwise than this version knows"]
    return list(_run(computations, entry, warnings)), warnings


def _run(computations: dict[str, Computation], name: str, warnings: list[str]) -> Iterator[Kernel]:
    computation = computations[name]
    for one in computation.instructions.values():
        base = one.operation.removesuffix("-start")
        if one.operation in FREE or one.operation.endswith(("-done", "-update")):
            continue
        if one.operation in ("while", "call", "async-start"):
            trips = 1
            if one.operation == "while":
                known = re.search(r'"known_trip_count":\{"n":"(\d+)"', one.rest)
                trips = int(known[1]) if known else 1
                if not known:
                    warnings.append(f"how often the loop {one.name} runs is not known; it is counted once")
            for called in CALLED.findall(one.rest):
                for kernel in _run(computations, called, warnings):
                    yield replace(kernel, calls=trips * kernel.calls)
        elif one.operation == "conditional":
            branches = [list(_run(computations, branch, warnings)) for branch in _branches(one.rest)]
            yield from max(branches, key=lambda kernels: sum(k.calls * k.bytes for k in kernels), default=[])
        elif base in EXCHANGES:
            shared = sum(size(computation.shape(operand)) for operand in one.operands)
            if base == "all-gather":  # the result of its start holds the operands too
                shared = size(one.shape) - (shared if one.operation.endswith("-start") else 0)
            yield Kernel(one.name, base, one.shape, 2 * shared, {}, exchanged=shared)
        else:
            flop: dict[str, float] = {}
            for kind, amount in _flop(computations, computation, one):
                flop[kind] = flop.get(kind, 0.0) + amount
            read = _read(computations, computation, one)
            fused = FUSED.search(one.rest) if one.operation == "custom-call" else None
            again = max(0, int(fused["loads"]) - read) if fused else 0
            moved = read + _written(computations, computation, one)
            yield Kernel(one.name, base, one.shape, moved, flop, again=again)


def _read(computations: dict[str, Computation], computation: Computation, one: Instruction) -> int:
    """The bytes of operands that a kernel reads."""
    total = 0
    inner = _called(computations, one)
    parameters = {}
    if one.operation == "fusion" and inner is not None:
        numbered = (i for i in inner.instructions.values() if i.operation == "parameter")
        parameters = {int(found.rest.partition(")")[0]): found.name for found in numbered}
    for place, operand in enumerate(one.operands):
        whole = size(computation.shape(operand))
        if place in parameters and inner is not None:
            name = parameters[place]
            taken = [_taken(inner, user, name) for user in inner.users(name)]
        else:
            taken = [_taken(computation, one, operand)]
        parts = [part for part in taken if part is not None]
        total += min(whole, sum(parts)) if parts and len(parts) == len(taken) else whole
    return total


def _taken(computation: Computation, user: Instruction, name: str) -> int | None:
    """What an instruction takes of an operand; None: all of it."""
    first = user.operands[0] if user.operands else ""
    while first != name and computation.instructions.get(first) is not None:
        through = computation.instructions[first]
        if through.operation != "bitcast":
            break
        first = through.operands[0]
    if first != name:
        return None
    if user.operation in ("dynamic-slice", "gather", "slice"):
        return size(user.shape)
    if user.operation == "dynamic-update-slice":
        return 0
    return None


def _written(computations: dict[str, Computation], computation: Computation, one: Instruction) -> int:
    """The bytes of results that a kernel writes."""
    inner = _called(computations, one)
    if one.operation == "fusion" and inner is not None and inner.root:
        root = _behind(inner, inner.root)
        results = [_behind(inner, name) for name in root.operands] if root.operation == "tuple" else [root]
        return sum(_update(inner, result) for result in results)
    if one.operation == "custom-call":  # with its workspace, of bytes
        parts = SHAPE.findall(one.shape)
        return (
            size(one.shape)
            if len(parts) == 1
            else sum(
                _item_bytes(kind) * math.prod(_dimensions(dims)) for kind, dims in parts if kind not in ("s8", "u8")
            )
        )
    if one.operation == "copy-start":
        return size(computation.shape(one.operands[0]))
    return _update(computation, one)


def _behind(computation: Computation, name: str) -> Instruction:
    one = computation.instructions[name]
    while one.operation == "bitcast" and one.operands[0] in computation.instructions:
        one = computation.instructions[one.operands[0]]
    return one


def _update(computation: Computation, one: Instruction) -> int:
    if one.operation == "dynamic-update-slice":
        return size(computation.shape(one.operands[1]))
    return size(one.shape)


def _flop(
    computations: dict[str, Computation], computation: Computation, one: Instruction
) -> Iterator[tuple[str, float]]:
    """The matrix products in an instruction and in what it calls: the type of their factors, and their FLOP."""
    inner = one.operation == "custom-call" and any(f'custom_call_target="{name}' in one.rest for name in GEMM)
    if one.operation == "dot" or inner:
        found = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', one.rest)
        kind, left = SHAPE.findall(computation.shape(one.operands[0]))[0]
        axes = [int(axis.strip('"')) for axis in found[1].split(",") if axis] if found else []
        contracted = math.prod(_dimensions(left)[axis] for axis in axes)
        _, out = SHAPE.findall(one.shape)[0]
        yield ("f32" if _item_bytes(kind) > 2 else "bf16"), 2.0 * math.prod(_dimensions(out)) * contracted
    if one.operation == "custom-call" and (fused := FUSED.search(one.rest)):
        yield fused["kind"], float(fused["flop"])
    if one.operation == "fusion":
        for name in CALLED.findall(one.rest):
            for instruction in computations[name].instructions.values():
                yield from _flop(computations, computations[name], instruction)


def _called(computations: dict[str, Computation], one: Instruction) -> Computation | None:
    found = CALLED.search(one.rest)
    return computations.get(found[1]) if found else None


def _branches(rest: str) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", rest)
    if listed:
        return [name.strip().lstrip("%") for name in listed[1].split(",")]
    return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", rest)


def _split_shape(text: str) -> tuple[str, str]:
    """A line's shape and what follows it."""
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    end = _closing(text[1:]) + 2
    return text[:end], text[end:].lstrip()


def _closing(text: str) -> int:
    """Where the bracket is closed that was opened before the text."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place
    return len(text)


def _dimensions(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _item_bytes(kind: str) -> int:
    """The bytes of one number of a type; of types of less than eight bits, one."""
    if kind in ("pred", "token"):
        return int(kind == "pred")
    bits = re.search(r"\d+", kind)
    return max(1, int(bits[0]) // 8) if bits else 0
