"""The first minutes on a card: is it right there, how fast is it, and by what factor were predictions off.

    make gpu-wheels                                     # once, where a package index can be reached
    scripts/gpu_check.sh --out FOLDER                   # on the machine with the card, which needs to reach nothing
    scripts/gpu_check.sh --out FOLDER --small           # the same on CPUs and small sizes: a rehearsal

In FOLDER there is then gpu-DATE-DEVICE-card.json. Copied into benchmarks/results, `graphufs plan` says from then on how
far its predictions are off. It holds

- what the machine reaches: bytes/s of a large copy (read and written), FLOP/s of a product of bfloat16 matrices;
- whether the network equals the reference on the golden cases;
- a row for each case and side, as benchmarks/gpu.py writes them: `seconds` predicted from the program that was compiled
  there, `measured` ones, `factor` between the two, and `ahead`, what was predicted before without the card;
- a profile of P0's step: the kernels that take longest.

Each part is a process of its own with a limit. What failed, or was left out for want of time, is named, and the exit
code is then 1; what was found before is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphufs.plan.measured import RESULTS
from graphufs.plan.target import Target, names
from graphufs.storage.atomic import write_json

ROOT = Path(__file__).parents[1]
ROWS = (("p0-16", "graphufs"), ("p0-16", "plain"), ("p0-1", "graphufs"), ("p0-1", "plain"), ("deg1-1", "graphufs"))
SMALL_ROWS = (("a-4", "graphufs"), ("a-4", "plain"))
PRECISION = "bfloat16"
LEAST = 15.0
"""Seconds under which no part is begun."""
REPEATS = 10


@dataclass(frozen=True)
class Part:
    """A process, and where in the outcome what it prints goes: the last line, JSON."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


def parts(small: bool) -> list[Part]:
    """All there is to do, the most telling first."""
    here = [sys.executable, str(Path(__file__)), *(["--small"] if small else []), "--part"]
    golden = {
        "XLA_FLAGS": "",  # else tests compile without optimizing
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",  # float32 is TF32 on GPUs otherwise
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    rows = [Part(f"{case} {side}", [*here, case, side], {}) for case, side in (SMALL_ROWS if small else ROWS)]
    return [Part("machine", [*here, "machine"], {}), *rows[:2], Part("golden", [*here, "golden"], golden), *rows[2:]]


def run_parts(wanted: Sequence[Part], deadline: float, found: Callable[[str, Any], None]) -> dict[str, str]:
    """Run parts one after the other until `deadline` (of time.monotonic); what went wrong, by part, in words."""
    wrong = {}
    for part in wanted:
        left = deadline - time.monotonic()
        if left < LEAST:
            wrong[part.name] = f"left out: {max(left, 0):.0f} s were left"
            continue
        print(f"{part.name} ({left:.0f} s left)", file=sys.stderr, flush=True)
        try:
            ended = subprocess.run(
                part.command, capture_output=True, text=True, timeout=left, env=os.environ | part.environment
            )
        except subprocess.TimeoutExpired:
            wrong[part.name] = f"not done after {left:.0f} s"
            continue
        if ended.returncode:
            wrong[part.name] = f"exit code {ended.returncode}: {(ended.stderr or ended.stdout)[-2000:]}"
            continue
        try:
            found(part.name, json.loads(ended.stdout.splitlines()[-1]))
        except (IndexError, ValueError):
            wrong[part.name] = f"printed no JSON: {ended.stdout[-500:]!r}"
    return wrong


def card() -> Target | None:
    """The target that this process's device is; None on CPUs.

    Raises
    ------
    SystemExit
        If it is a GPU that no target describes.
    """
    import jax

    if jax.default_backend() != "gpu":
        return None
    kind = jax.devices()[0].device_kind
    for target in map(Target.named, names()):
        if f'"{kind}"' in target.xla:
            return target
    raise SystemExit(f"no file in graphufs/plan/targets describes a {kind!r}; there are {', '.join(names())}")


def seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median of some calls, after one that does not count."""
    import jax

    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def machine(small: bool) -> dict[str, Any]:
    """What is there, and what it reaches."""
    from importlib import metadata

    import jax
    import jax.numpy as jnp

    target, count, size = card(), 2**20 if small else 2**30, 256 if small else 8192
    values = jnp.arange(count, dtype=jnp.float32)
    copy, multiply = jax.jit(lambda values: values + 1), jax.jit(jnp.matmul)
    copied = 2 * values.nbytes / seconds(lambda: copy(values))
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    rate = 2 * size**3 / seconds(lambda: multiply(matrix, matrix))
    reached: dict[str, Any] = {"bandwidth": copied, "bf16": rate}
    if target is not None:
        reached |= {"bandwidth_share": copied / target.bandwidth, "bf16_share": rate / target.rates["bf16"]}
    return {
        "device": target.name if target else "cpu",
        "kind": jax.devices()[0].device_kind,
        "python": sys.version.split()[0],
        "versions": {name: metadata.version(name) for name in ("jax", "jaxlib", "equinox", "optax", "numpy", "zarr")},
        "reached": reached,
    }


def golden() -> dict[str, Any]:
    """The network against the reference: whether it is equal, and what the tests say."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--confcutdir",
        "tests/golden",
    ]
    ended = subprocess.run([*command, "tests/golden/test_graphcast.py"], cwd=ROOT, capture_output=True, text=True)
    said = [line for line in ended.stdout.splitlines() if line.strip()]
    failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
    if ended.returncode > 1 or not said:  # not a failed test: pytest could not run them
        raise SystemExit((ended.stderr or ended.stdout)[-2000:])
    return {"passed": ended.returncode == 0, "summary": said[-1], "failed": failed}


def row(name: str, side: str) -> dict[str, Any]:
    """One program, compiled and timed here."""
    import jax
    from gpu import OURS, WANTED, program

    from graphufs.plan.ahead import figures_of

    target, wanted = card(), WANTED[name]
    function, arguments = program(wanted, PRECISION, side)
    jitted = jax.jit(function, donate_argnums=0 if wanted.training else ())
    began = time.monotonic()
    compiled = jitted.lower(*arguments).compile()
    figures = figures_of(compiled, target or Target.named("h100"))
    figures["compiled_in"] = round(time.monotonic() - began, 1)
    held = [jax.tree.map(jax.numpy.array, arguments)]

    def step() -> Any:
        result = compiled(*held[0])
        if wanted.training:
            held[0] = (result[0], *held[0][1:])  # its memory was taken
        return result

    measured = seconds(step)
    known = {"case": name, "side": side, "precision": PRECISION, "device": target.name if target else "cpu"}
    factor = measured / figures["seconds"] if target else None  # predictions are for cards
    found = known | figures | {"measured": measured, "factor": factor, "ahead": ahead(known)}
    if side == OURS and name in ("p0-16", "a-4"):
        found["profile"] = profile(step)
    return found


def ahead(known: Mapping[str, Any]) -> float | None:
    """The seconds last predicted for a row without a card; None where nobody did."""
    keys = ("case", "side", "precision", "device")
    contents = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("gpu-*.json"))]
    there = [one for content in contents for one in content["rows"] if one["measured"] is None]
    same = [one["seconds"] for one in there if all(one[key] == known[key] for key in keys)]
    return same[-1] if same else None


def profile(step: Callable[[], Any], steps: int = 3, longest: int = 20) -> list[dict[str, Any]]:
    """The kernels that take longest in a step: their names in the compiled program, calls and seconds a step."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                jax.block_until_ready(step())
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
        on_cards = [line for plane in planes if plane.name.startswith("/device:GPU") for line in plane.lines]
        lines = [line for line in on_cards if line.name.startswith("Stream")] or [
            line for plane in planes if "CPU" in plane.name for line in plane.lines
        ]
        taken, calls = Counter[str](), Counter[str]()
        for line in lines:
            for event in line.events:
                taken[event.name] += event.duration_ns
                calls[event.name] += 1
    return [
        {"name": name, "calls": calls[name] / steps, "seconds": nanoseconds / steps / 1e9}
        for name, nanoseconds in taken.most_common(longest)
    ]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="the folder for the outcome")
    parser.add_argument("--minutes", type=float, default=6.0, help="for everything")
    parser.add_argument("--commit", default="unknown", help="what is checked, for the outcome")
    parser.add_argument("--small", action="store_true", help="a rehearsal on CPUs")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        known = {"machine": lambda: machine(options.small), "golden": golden}
        print(json.dumps(known[options.part[0]]() if len(options.part) == 1 else row(*options.part)))
        return 0
    began, now = time.monotonic(), datetime.now(UTC)
    content: dict[str, Any] = {"date": f"{now:%Y-%m-%d}", "commit": options.commit, "rehearsal": options.small}
    content |= {"command": "scripts/gpu_check.sh --out FOLDER", "rows": []}

    def keep(name: str, found: Any) -> None:
        if "case" in found:
            content["rows"].append(found | {"commit": options.commit})
        else:
            content[name] = found
        device = content.get("machine", {}).get("device", "unknown")
        write_json(options.out / f"gpu-{content['date']}-{device}-card.json", content)

    wrong = run_parts(parts(options.small), began + 60 * options.minutes, keep)
    keep("wrong", wrong)
    keep("took", {"seconds": round(time.monotonic() - began)})
    for one in content["rows"]:
        factor = f", {one['factor']:.2f} times predicted" if one["factor"] else ""
        print(f"{one['case']} {one['side']}: {1e3 * one['measured']:.2f} ms measured{factor}")
    print(f"golden cases: {content.get('golden', {}).get('summary', 'not run')}")
    for name, why in wrong.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 0 if not wrong and content["golden"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
