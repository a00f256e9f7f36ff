"""Prepared data of many nights, a segment each: written, opened, merged, opened again.

Segments are copies of one, of noise. All else is what runs in use.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.data import merge
from graphufs.data.channels import PreparedChannel
from graphufs.data.dataset import PreparedData
from graphufs.data.manifest import SEGMENTS, STATIC, Header, Manifest, Segment
from graphufs.data.segments import segment_name
from graphufs.data.static_fields import write_static
from graphufs.data.zarr_segment import create
from graphufs.steps import never_stop
from graphufs.storage.checksums import files_of

OPEN_SECONDS = 1.0
"""2,000 nights of prepared data, merged, are to open in less; CPU time, as machines are shared."""
DAY = 86400.0
STAMPS = 4
"""A night's, 6-hourly."""


def segments(folder: Path, count: int) -> dict[str, Any]:
    write_nights(folder, count)
    before = PreparedData.open(folder)
    frames = before.read(before.stamps).tobytes()
    figures: dict[str, Any] = {"nights": count, "as_written": opened(folder)}
    began = time.process_time()
    merge.merge(folder, should_stop=never_stop)
    figures["merging_cpu_s"] = round(time.process_time() - began, 2)
    merge.remove_expired(folder, time.time() + DAY)
    figures["merged"] = opened(folder)
    after = PreparedData.open(folder)
    if after.read(after.stamps).tobytes() != frames:
        raise SystemExit("the frames after merging are not those before")
    took = figures["merged"]["open_cpu_s"]
    figures["missed"] = [f"merged data opened in {took} CPU s, not {OPEN_SECONDS}"] if took >= OPEN_SECONDS else []
    return figures


def write_nights(folder: Path, count: int, first: str = "2000-01-01T00") -> None:
    """Prepared data of noise, a segment for each of `count` nights; all are copies of one but for the manifest."""
    latitude, longitude = np.linspace(80.0, -80.0, 4), np.arange(8) * 45.0
    channels = (PreparedChannel("pressfc", None, None), PreparedChannel("tmp", 500.0, 505.65))
    header = Header(6, "fv3", channels, (), {}, latitude, longitude, latitude)
    write_static(folder / STATIC, header, np.ones((2, 4, 8), bool), {})
    manifest = replace(Manifest(header), static=files_of(folder / STATIC))
    template = folder / SEGMENTS / ".template"
    template.parent.mkdir()
    stamps = np.datetime64(first, "ns") + np.arange(STAMPS) * np.timedelta64(6, "h")
    array, _ = create(template, stamps, channels, latitude, longitude)
    array[:] = np.random.default_rng(0).standard_normal(array.shape, np.float32)
    copies(manifest, folder, template, [stamps + np.timedelta64(night, "D") for night in range(count)]).write(folder)
    shutil.rmtree(template)


def copies(manifest: Manifest, folder: Path, template: Path, stamps: Sequence[np.ndarray]) -> Manifest:
    """The manifest with a copy of one segment for each array of stamps [frame]."""
    files, made = files_of(template), []
    for those in stamps:
        shutil.copytree(template, folder / SEGMENTS / segment_name(those))
        made.append(Segment(segment_name(those), those, {}, files))
    return manifest.with_segments([*manifest.segments, *made])


def opened(folder: Path) -> dict[str, Any]:
    walls, times = [], []
    for _ in range(3):
        began, wall = time.process_time(), time.perf_counter()
        PreparedData.open(folder)
        times.append(time.process_time() - began)
        walls.append(time.perf_counter() - wall)
    return {"open_cpu_s": round(min(times), 3), "open_wall_s": round(min(walls), 3), **size(folder)}


def size(folder: Path) -> dict[str, Any]:
    """Files and folders below a folder, and their bytes."""
    inodes, total = 0, 0
    for place, folders, names in os.walk(folder):
        inodes += len(folders) + len(names)
        total += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
    return {"inodes": inodes, "mib": round(total / 2**20, 2)}
