"""Reading frames for training against `preadv` of the same frames, and years of prepared data opened and committed.

    python benchmarks/frames.py            # both parts; exit code 1 if a bound is missed
    python benchmarks/frames.py loader     # batches of the prototype at its full size, in shuffled order
    python benchmarks/frames.py scale      # 30 years, 44,000 stamps, 84 channels of tiny fields; a thousand commits

`loader` reads the same batches in turn by `PreparedData.read`, as the loader does, and by bare positioned reads, both
with its threads and its buffers: with the files in the page cache, and after the system was asked to drop them.
`scale` opens the data in a process of its own, whose memory is told, and commits segments one after the other: the
second half may cost what the first did.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from growth_segments import copies
from loader import CASES, EXPERIMENTS, drop_from_cache, write_store

from graphufs.config import loading
from graphufs.data.channels import PreparedChannel
from graphufs.data.commits import Commits
from graphufs.data.dataset import PreparedData
from graphufs.data.loader import READERS, BatchLoader, WindowReader
from graphufs.data.manifest import SEGMENTS, STATIC, Header, Manifest, Segment
from graphufs.data.segments import segment_name
from graphufs.data.static_fields import write_static
from graphufs.data.zarr_segment import FRAMES, create
from graphufs.model.keep_freed_memory import keep_freed_memory
from graphufs.replay.times import by_month
from graphufs.storage.checksums import files_of
from graphufs.storage.paths import Paths
from graphufs.storage.provenance import provenance

CPU_RATIO, RATES = 1.2, {"warm": 0.9, "cold": 0.8}
"""The bounds of the loader: CPU time and samples a second against preadv."""
OPEN_SECONDS, OPEN_MIB, LINEAR = 1.0, 300, 1.5
"""The bounds of the scale: opening in CPU time and memory, later commits against earlier ones."""
YEARS, CHANNELS, COMMITS = 30, 84, 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("loader", "scale", "open"), help="default: both")
    parser.add_argument("--frames", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    parser.add_argument("--folder", type=Path, help="where data are written, and removed again (default: temporary)")
    given = parser.parse_args()
    if given.part == "open":
        print(json.dumps(opened(given.folder)))
        return 0
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="graphufs-frames-") as root:
        if given.part in (None, "loader"):
            figures["loader"] = loader(Path(root) / "loader", given.frames, given.repeats)
        if given.part in (None, "scale"):
            figures["scale"] = scale(Path(root) / "scale")
    about = {"date": datetime.now(UTC).date().isoformat(), "commit": provenance()["commit"]}
    text = json.dumps({**about, **figures, "load": os.getloadavg()[0], "cores": os.cpu_count()}, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")
    missed = [line for part in figures.values() for line in part["missed"]]
    print("\n".join(missed) or "all bounds hold")
    return 1 if missed else 0


def loader(root: Path, frames: int, repeats: int) -> dict[str, Any]:
    keep_freed_memory()
    root.mkdir()
    paths = Paths(loading.load(EXPERIMENTS / "p0.yaml"), root)
    write_store(paths, CASES["p0"], frames)
    data, experiment = PreparedData.open(paths.data), paths.experiment
    times = data.stamps[experiment.data.input_frames - 1 : -1]
    windows = WindowReader.of(experiment, data, times, 1)
    batches = BatchLoader(windows, experiment.training.batch_size, (0,))
    offsets = _offsets(paths.data, data)

    def ours(times: np.ndarray, out: np.ndarray) -> None:
        data.read(windows.window(times).ravel(), out)

    def bare(times: np.ndarray, out: np.ndarray) -> None:
        stamps = windows.window(times).ravel()
        for row, at in enumerate(np.searchsorted(data.stamps, stamps)):
            descriptor, offset = offsets[at]
            os.preadv(descriptor, [out[row].data.cast("B")], offset)

    count = batches.batches_per_epoch
    samples = count * experiment.training.batch_size
    found: dict[str, Any] = {"frame_mib": round(4 * float(np.prod(data.frame_shape)) / 2**20, 2), "missed": []}
    for state, least in RATES.items():
        taken: dict[str, list[tuple[float, float]]] = {"ours": [], "preadv": []}
        for turn in range(repeats + 1):  # the first warms the page cache
            for name, read in (("ours", ours), ("preadv", bare)):
                if state == "cold":
                    drop_from_cache(paths.data)
                taken[name].append(_timed(read, batches, range(turn * count, (turn + 1) * count)))
        both = list(zip(taken["ours"][1:], taken["preadv"][1:], strict=True))
        cpu, rate = (statistics.median(a[at] / b[at] for a, b in both) for at in (0, 1))
        found[state] = {
            "cpu_ms_a_sample": {name: _median(all_, 0, samples / 1000) for name, all_ in taken.items()},
            "samples_a_second": {name: round(1000 / _median(all_, 1, samples / 1000)) for name, all_ in taken.items()},
            "cpu_ratio": round(cpu, 2),
            "rate_ratio": round(1 / rate, 2),
        }
        if state == "warm" and cpu > CPU_RATIO:
            found["missed"].append(f"{cpu:.2f} times the CPU time of preadv, not {CPU_RATIO}")
        if 1 / rate < least:
            found["missed"].append(f"{1 / rate:.2f} of the rate of preadv {state}, not {least}")
    return found


def _median(taken: list[tuple[float, float]], at: int, of: float) -> float:
    """The median of CPU (0) or wall time (1) but for the first time, divided."""
    return round(statistics.median(one[at] for one in taken[1:]) / of, 3)


def _timed(read: Callable[[np.ndarray, np.ndarray], None], loader: BatchLoader, numbers: range) -> tuple[float, float]:
    """CPU and wall time [s] of reading batches, AHEAD at once."""
    began, wall = time.process_time(), time.perf_counter()
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for number in numbers:
            if len(pending) == loader.ahead:
                pending.popleft().result()
            times = loader.initial_times(number)
            pending.append(pool.submit(read, times, loader.samples.buffer(len(times))))
    return time.process_time() - began, time.perf_counter() - wall


def _offsets(folder: Path, data: PreparedData) -> list[tuple[int, int]]:
    """Descriptor and offset of each frame of data in one segment, found in the shards' indices by hand."""
    (segment,) = (folder / SEGMENTS).iterdir()
    layout = json.loads((segment / FRAMES / "zarr.json").read_text())
    per_shard = layout["chunk_grid"]["configuration"]["chunk_shape"][0]
    found: list[tuple[int, int]] = []
    for shard in range(-(-data.stamps.size // per_shard)):
        path = segment / FRAMES / "c" / str(shard) / "0/0/0"
        index = np.frombuffer(path.read_bytes()[-16 * per_shard - 4 : -4], "<u8")[::2]
        descriptor = os.open(path, os.O_RDONLY)
        found += [(descriptor, int(offset)) for offset in index]
    return found


def scale(folder: Path) -> dict[str, Any]:
    latitude, longitude = np.linspace(80.0, -80.0, 2), np.arange(2) * 180.0
    channels = tuple(PreparedChannel("tmp", float(level), float(level)) for level in range(1, CHANNELS + 1))
    header = Header(6, "fv3", channels, (), {}, latitude, longitude, latitude)
    write_static(folder / STATIC, header, np.ones((CHANNELS, 2, 2), bool), {})
    manifest = replace(Manifest(header), static=files_of(folder / STATIC))
    first, last = (np.datetime64(f"{year}-01-01", "ns") for year in (1994, 1994 + YEARS))
    months = by_month(np.arange(first, last, np.timedelta64(6, "h")))
    for length in {month.size for month in months}:
        template = folder / SEGMENTS / f".template{length}"
        template.parent.mkdir(exist_ok=True)
        array, _ = create(template, months[0][:length], channels, latitude, longitude)
        array[:] = np.random.default_rng(0).standard_normal(array.shape, np.float32)
        manifest = copies(manifest, folder, template, [month for month in months if month.size == length])
        shutil.rmtree(template)
    manifest.write(folder)
    command = [sys.executable, __file__, "open", "--folder", str(folder)]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    figures |= committed(folder, manifest)
    missed = [
        f"opened in {figures['open_cpu_s']} CPU s, not {OPEN_SECONDS}" if figures["open_cpu_s"] >= OPEN_SECONDS else "",
        f"opened in {figures['rss_mib']} MiB, not {OPEN_MIB}" if figures["rss_mib"] >= OPEN_MIB else "",
        f"later commits cost {figures['later_to_earlier']} of the earlier"
        if figures["later_to_earlier"] > LINEAR
        else "",
    ]
    return {**figures, "missed": [line for line in missed if line]}


def opened(folder: Path) -> dict[str, Any]:
    began, wall = time.process_time(), time.perf_counter()
    data = PreparedData.open(folder)
    took = time.process_time() - began, time.perf_counter() - wall
    return {
        "stamps": int(data.stamps.size),
        "segments": len(data._segments),
        "open_cpu_s": round(took[0], 2),
        "open_wall_s": round(took[1], 2),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
    }


def committed(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """A thousand commits to what is there, by journal as now and, fewer, by writing all anew as before."""
    one = manifest.segments[0]
    later = [one.stamps + np.timedelta64(366 * 30 + 32 * number, "D") for number in range(COMMITS)]
    new = [Segment(segment_name(stamps), stamps, {}, one.files) for stamps in later]
    times = [time.process_time()]
    with Commits(folder, manifest) as commits:
        for segment in new:
            commits.add(segment)
            times.append(time.process_time())
        whole = commits.manifest
    last = time.process_time()
    half = COMMITS // 2
    began = time.process_time()
    for _ in range(10):
        whole.write(folder)
    return {
        "commits_cpu_s": round(times[-1] - times[0], 2),
        "into_the_manifest_cpu_s": round(last - times[-1], 2),
        "later_to_earlier": round((times[-1] - times[half]) / (times[half] - times[0]), 2),
        "a_whole_manifest_cpu_ms": round(100 * (time.process_time() - began)),
    }


if __name__ == "__main__":
    sys.exit(main())
