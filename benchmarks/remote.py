"""Preparing from a store far away, against the floor that its bytes set and against plain concurrent reads.

    python benchmarks/remote.py                    # exit code 1 if a bound is missed
    python benchmarks/remote.py --stamps 96 --results FILE

A look-alike of Replay's store (127 levels at a degree, Blosc as zarr writes it by default) lies behind a server in a
process of its own: 100 ms before each answer, 25 MB/s a stream, 120 MB/s in all; one request in a hundred ends with a
503, a reset or a body cut short, and one connection is silent for ever. The floor of some bytes is what they take at
120 MB/s: the latency of the rounds that no reader can do without is not in it, nor what the server takes of the
processors that both share (`server_cpu_s`). `levels` prepares 3 levels, of which parts of chunks travel. `whole`
prepares 3 levels of a store whose chunks come whole (Zstandard), beside zarr's own reads by as many threads as were
best, from the same server without faults. What is prepared must be byte for byte what a local store gives. Chunks of a
few stamps stand for those of all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numcodecs
import numpy as np
import zarr

sys.path.insert(0, str(Path(__file__).parents[1]))

from graphufs.config.experiment import Experiment
from graphufs.steps import run_step
from graphufs.storage.in_flight import TRAFFIC
from tests.support.lookalike import Weather, gaussian_latitudes
from tests.support.object_server import ObjectServer

SHARE, FLOOR_RATIO, PLAIN_RATIO = 0.08, 1.5, 1.3
"""The bounds: bytes of 3 levels against whole chunks, wall time against the bytes', and against plain reads'."""
LATENCY, STREAM, ALL = 0.1, 25e6, 120e6
READ_TIMEOUT = 3
"""Seconds for the next bytes, in place of the default: the silent connection shall not be all that is timed."""
MEMORY_MIB = 1024
"""`reading_mib`; besides it the process holds what it has imported and the frames that it writes."""
FRAMES_MIB = 3 * 128
"""The frames of three segments, of which one is written."""
DISTINCT = 12
"""Stamps whose chunks are made; the others' are links to these."""
LATITUDES, LONGITUDES = 192, 384
STEP = np.timedelta64(6, "h")
FIRST = np.datetime64("1994-01-01T00", "h")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=720, help="of `levels`; `whole` takes an eighth")
    parser.add_argument("--part", choices=("levels", "whole", "prepare", "plain"), help="default: levels and whole")
    parser.add_argument("--folder", type=Path, help="where data are written, and removed again (default: temporary)")
    parser.add_argument("--given", help="what a part that is timed in a process of its own gets, as JSON")
    parser.add_argument("--results", type=Path, help="a file for the figures as JSON")
    given = parser.parse_args()
    if given.given:
        run = prepared if given.part == "prepare" else plain
        print(json.dumps(run(**json.loads(given.given))))
        return 0
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="graphufs-remote-") as root:
        if given.part in (None, "levels"):
            figures["levels"] = levels(Path(root), given.stamps)
        if given.part in (None, "whole"):
            figures["whole"] = whole(Path(root), max(24, given.stamps // 8))
    figures |= {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    text = json.dumps(figures, indent=2)
    print(text)
    if given.results:
        given.results.write_text(text + "\n")
    missed = [line for part in figures.values() if isinstance(part, dict) for line in part["missed"]]
    print("\n".join(missed) or "all bounds hold")
    return 1 if missed else 0


def levels(root: Path, stamps: int) -> dict[str, Any]:
    """Three levels of Blosc chunks, with faults."""
    store = write_store(root / "blosc.zarr", stamps, numcodecs.Blosc())
    with serving(root, silent=200) as server:
        found = timed(
            "prepare", root=str(root / "far"), server=server["at"], store=store.name, stamps=stamps, warm=str(store)
        )
    local = timed("prepare", root=str(root / "local"), server=None, store=str(store), stamps=stamps, warm=str(store))
    in_chunks = sum(file.stat().st_size for file in (store / "tmp").iterdir() if file.name[0].isdigit())
    floor = found["bytes"] / ALL
    held = found["rss_mib"] - local["rss_at_first_mib"]
    missed = [
        "" if same(root / "far", root / "local") else "not what a local store gives",
        "" if found["bytes"] <= SHARE * in_chunks else f"{found['bytes'] / in_chunks:.3f} of the bytes, not {SHARE}",
        "" if found["wall_s"] <= FLOOR_RATIO * floor else f"{found['wall_s'] / floor:.2f} of the floor",
        "" if held <= MEMORY_MIB + FRAMES_MIB else f"{held} MiB held",
    ]
    return {
        "stamps": stamps,
        **found,
        "server_cpu_s": server["cpu_s"],
        "share_of_whole_chunks": round(found["bytes"] / in_chunks, 4),
        "floor_s": round(floor, 2),
        "wall_to_floor": round(found["wall_s"] / floor, 2),
        "local": local,
        "missed": [line for line in missed if line],
    }


def whole(root: Path, stamps: int) -> dict[str, Any]:
    """Three levels of chunks that come whole, against plain concurrent reads."""
    store = write_store(root / "zstd.zarr", stamps, numcodecs.Zstd(1))
    with serving(root, silent=None) as server:
        plain = {
            str(threads): timed("plain", server=server["at"], store=store.name, stamps=stamps, threads=threads)
            for threads in (8, 16)
        }
    with serving(root, silent=40) as server:
        found = timed(
            "prepare", root=str(root / "far"), server=server["at"], store=store.name, stamps=stamps, warm=str(store)
        )
    best = min(one["wall_s"] for one in plain.values())
    ratio = found["wall_s"] / best
    return {
        "stamps": stamps,
        **found,
        "server_cpu_s": server["cpu_s"],
        "floor_s": round(found["bytes"] / ALL, 2),
        "plain_by_threads": plain,
        "wall_to_plain": round(ratio, 2),
        "missed": [] if ratio <= PLAIN_RATIO else [f"{ratio:.2f} of what plain reads take, not {PLAIN_RATIO}"],
    }


def write_store(path: Path, stamps: int, codec: Any) -> Path:
    """A store of temperature alone, of whose chunks DISTINCT are written and all others are links."""
    latitude, longitude = gaussian_latitudes(LATITUDES), np.arange(LONGITUDES) * 360.0 / LONGITUDES
    weather, times = Weather(latitude, longitude), FIRST + np.arange(stamps) * STEP
    group = zarr.create_group(str(path), zarr_format=2)
    axes: dict[str, tuple[np.ndarray, dict[str, str]]] = {
        "time": (8760 + 6 * np.arange(stamps), {"units": "hours since 1993-01-01", "calendar": "standard"}),
        "pfull": (weather.pfull.astype(np.float32), {"units": "mb"}),
        "grid_yt": (latitude, {"units": "degrees_N"}),
        "grid_xt": (longitude, {"units": "degrees_E"}),
    }
    for name, (values, attributes) in axes.items():
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, fill_value=-1)
        array[:] = values
        array.attrs.update({"_ARRAY_DIMENSIONS": [name], **attributes})
    shape = (weather.pfull.size, LATITUDES, LONGITUDES)
    array = group.create_array(
        "tmp", shape=(stamps, *shape), chunks=(1, *shape), dtype="float32", compressors=codec, fill_value=np.nan
    )
    array.attrs.update({"_ARRAY_DIMENSIONS": list(axes), "long_name": "temperature", "units": "K", "nbits": 14})
    for number in range(stamps):
        if number < DISTINCT:
            values = weather.temperature(times[number].astype("datetime64[ns]"), range(weather.pfull.size))
            array[number] = np.ldexp(np.rint(np.ldexp(values.astype(np.float32), 6)), -6)  # as 14 bits make it
        else:
            os.link(path / "tmp" / f"{number % DISTINCT}.0.0.0", path / "tmp" / f"{number}.0.0.0")
    zarr.consolidate_metadata(str(path), zarr_format=2)
    return path


def chosen(url: str, stamps: int, options: dict[str, Any]) -> Experiment:
    ends = [str(FIRST + int(share * (stamps - 1)) * STEP) for share in (0.5, 0.75, 1.0)]
    begins = [str(FIRST), *(str(np.datetime64(end) + STEP) for end in ends[:2])]
    periods = {
        name: {"start": begin, "end": end}
        for name, begin, end in zip(("training", "validation", "evaluation"), begins, ends, strict=True)
    }
    return Experiment.model_validate(
        {
            "name": "remote",
            "data": {
                "source": {"url": url, "storage_options": options},
                "inputs": ["tmp"], "targets": ["tmp"], "levels": [100, 500, 1000],
                "time_step": "6h", **periods,
            },
            "training": {"batch_size": 1, "stages": [{"name": "one", "updates": 1}]},
            "forecast": {"lead_time": "6h", "every": "6h"},
        }
    )  # fmt: skip


def prepared(root: str, server: str | None, store: str, stamps: int, warm: str) -> dict[str, Any]:
    """In a process of its own: prepare, and what it took, once a few stamps of the local store `warm` are prepared.

    So nothing is timed that is imported once a process.
    """
    import gcsfs  # noqa: F401

    run_step("prepare", chosen(warm, DISTINCT, {}), Path(root).with_name("warm"))
    url, options = store, {}
    if server:
        url = f"gs://bucket/{store}"
        options = {"token": "anon", "endpoint_url": server, "read_timeout": READ_TIMEOUT, "reading_mib": MEMORY_MIB}
    experiment = chosen(url, stamps, options)
    at_first, began, cpu = _rss(), time.perf_counter(), time.process_time()
    run_step("prepare", experiment, Path(root))
    return {
        "wall_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "bytes": TRAFFIC.received,
        "rss_at_first_mib": at_first,
        "rss_mib": _rss(),
    }


def plain(server: str, store: str, stamps: int, threads: int) -> dict[str, Any]:
    """In a process of its own: the same levels by zarr itself, in threads."""
    from zarr.storage import FsspecStore

    from graphufs.storage import object_stores  # noqa: F401  has gcsfs not ask for the bucket's type, for minutes

    at = FsspecStore.from_url(
        f"gs://bucket/{store}", storage_options={"token": "anon", "endpoint_url": server}, read_only=True
    )
    array = zarr.open_array(at, path="tmp", mode="r")
    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: array[number, 50:53], range(stamps)))
    return {"wall_s": round(time.perf_counter() - began, 2), "cpu_s": round(time.process_time() - cpu, 2)}


def timed(part: str, **given: Any) -> dict[str, Any]:
    """What a part gives in a process of its own."""
    import subprocess

    command = [sys.executable, __file__, "--part", part, "--given", json.dumps(given)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


@contextmanager
def serving(folder: Path, *, silent: int | None) -> Any:
    """A server of the folder, in a process of its own: `at` is its address, `cpu_s` what it took, known at the end.

    It has faults, and never answers the chunk request with the number `silent`, unless that is None.
    """
    mine, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, silent, its), daemon=True)
    process.start()
    server = {"at": mine.recv()}
    try:
        yield server
    finally:
        mine.send("end")
        server["cpu_s"] = mine.recv()
        process.join(30)


def serve(folder: Path, silent: int | None, told: Any) -> None:
    server, chance = ObjectServer(folder), Random(0)
    server.latency, server.stream_rate, server.rate = LATENCY, STREAM, ALL
    seen = [0]

    def fault(name: str, time: int) -> str:
        if silent is None or "/tmp/" not in name or name.endswith("0.0.0.0"):
            return ""
        seen[0] += 1
        if seen[0] == silent:
            return "stall"
        return chance.choice(("503", "reset", "short")) if chance.random() < 0.01 else ""

    server.faults = fault
    with server.running():
        told.send(server.endpoint)
        begun = time.process_time()
        told.recv()
        told.send(round(time.process_time() - begun, 2))


def same(one: Path, other: Path) -> bool:
    """Whether two roots have the same prepared segments and static fields."""
    found = []
    for root in (one, other):
        (folder,) = (path.parent for path in root.rglob("segments"))
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent != folder)
        found.append({path.relative_to(folder): path.read_bytes() for path in files})
    return bool(found[0]) and found[0] == found[1]


def _rss() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


if __name__ == "__main__":
    sys.exit(main())
