"""What a root holds of forecasts as a static STAC catalogue (stacspec.org), for the tools that read such.

<root>/stac/catalog.json                    links to the collections
           <experiment>/collection.json     links to its items
                        <item>.json         a store of forecasts, or what is published of one initial time

Links and addresses are relative, so a catalogue moves with its root. Each file is replaced in one step, what is linked
to before what links to it, so a reader finds all that a link leads to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.errors import UserError
from graphufs.storage.atomic import write_text
from graphufs.storage.checksums import CHECKSUMS, Damaged, listed, read_checked
from graphufs.storage.lock import locked
from graphufs.storage.paths import PUBLISHED
from graphufs.storage.zarr_io import store_damage
from graphufs.weatherbench.inputs.forecasts import Forecasts

FOLDER, CATALOG, COLLECTION = "stac", "catalog.json", "collection.json"
VERSION = "1.1.0"
FORECAST = "https://stac-extensions.github.io/forecast/v0.2.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
TYPES = {
    ".nc": "application/netcdf",
    ".grib2": "application/wmo-GRIB2",
    ".zarr": "application/vnd.zarr",
    ".json": "application/json",
}
"""Media types by the ending of a name."""
LICENSE = "other"
"""What STAC says where it does not know: whose data an emulator learnt from, and what they allow, varies."""
CRC_32 = "b20204"
"""What a CRC-32 begins with as a multihash: its code 0x0132 as a varint, and its length."""

Json = dict[str, Any]


def write(root: Path) -> dict[str, int]:
    """Make the catalogue of a root what the root holds now; how many collections and items there are.

    What is damaged or half written is no part of it.
    """
    place, kept = root / FOLDER, set()
    with locked(root, should_stop=lambda: False, waiting=lambda: None, name=f".{FOLDER}.lock"):
        items: dict[str, list[Json]] = {}
        for experiment, item in (*_stores(root), *_published(root)):
            items.setdefault(experiment, []).append(item)
        for experiment, ones in sorted(items.items()):
            for item in ones:
                kept.add(_write(place / experiment / f"{item['id']}.json", item))
            kept.add(_write(place / experiment / COLLECTION, _collection(experiment, ones)))
        kept.add(_write(place / CATALOG, _catalog(sorted(items))))
        for path in sorted(place.glob("*/*.json")):
            if path not in kept:
                path.unlink()
        for folder in place.glob("*/"):
            with suppress(OSError):  # what is not empty stays
                folder.rmdir()
    return {"collections": len(items), "items": sum(map(len, items.values()))}


def place_and_time(forecasts: Forecasts, initial_time: np.datetime64 | None = None) -> Json:
    """Where and when forecasts are, all or those from one initial time, as their item says it."""
    times, leads = forecasts.initial_times, forecasts.leads
    times = times if initial_time is None else times[times == initial_time]
    return {
        "bbox": _bbox(forecasts.grid.latitude, forecasts.grid.longitude),
        "start_datetime": _text(times.min() + leads.min()),
        "end_datetime": _text(times.max() + leads.max()),
        "forecast:reference_datetime": _text(times.min()),
        "forecast:horizon": f"PT{round(leads.max() / np.timedelta64(1, 'h'))}H",
        "initial_times": int(times.size),
        "variables": sorted(map(str, forecasts.dataset.data_vars)),
    }


def _stores(root: Path) -> Iterator[tuple[str, Json]]:
    """The experiment and the item of each store of forecasts that is whole."""
    for path in sorted((root / "runs").glob("*/*/forecasts/[!.]*.zarr")):
        run, experiment = path.parts[-3], path.parts[-4]
        with suppress(UserError, KeyError, ValueError, OSError):
            if store_damage(path) is None:
                href = f"../../{path.relative_to(root).as_posix()}"
                asset = {**_asset(href, path), "title": "forecasts, all initial times", "checksums": ".zmetadata"}
                about = {**place_and_time(Forecasts.open(path)), "run": run}
                changed = path.stat().st_mtime
                yield experiment, _item(f"{experiment}-{run}-{path.stem}", experiment, about, {"zarr": asset}, changed)


def _published(root: Path) -> Iterator[tuple[str, Json]]:
    """The same of what is published of each initial time."""
    for path in sorted((root / PUBLISHED).glob("*/[0-9]*/[0-9]*")):
        with suppress(Damaged, KeyError, OSError):
            content = read_checked(path / CHECKSUMS)
            about: Json = dict(content["about"])
            experiment = str(about.pop("experiment"))
            assets: Json = {}
            for name, (size, checksum) in (listed(content) or {}).items():
                top = path / name.partition("/")[0]
                href = f"../../{top.relative_to(root).as_posix()}"
                assets.setdefault(top.suffix.lstrip("."), _asset(href, top))
                if top.name == name:
                    assets[top.suffix.lstrip(".")] |= {"file:size": size, "file:checksum": f"{CRC_32}{checksum:08x}"}
            yield (
                experiment,
                _item(
                    f"{path.parts[-3]}-{path.parts[-2]}{path.parts[-1]}",
                    experiment,
                    about,
                    assets,
                    path.stat().st_mtime,
                ),
            )


def _asset(href: str, path: Path) -> Json:
    return {"href": href, "type": TYPES[path.suffix], "roles": ["data"]}


def _item(name: str, experiment: str, about: Mapping[str, Any], assets: Json, changed: float) -> Json:
    about = dict(about)
    bbox: list[float] = about.pop("bbox")
    own = {"graphufs:" + key: about.pop(key) for key in ("initial_times", "variables", "run", "model") if key in about}
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [FORECAST, FILE],
        "id": name,
        "collection": experiment,
        "bbox": bbox,
        "geometry": _polygon(bbox),
        "properties": {"datetime": None, **about, "created": _text(np.datetime64(round(changed), "s")), **own},
        "links": [
            {"rel": "root", "href": f"../{CATALOG}", "type": "application/json"},
            {"rel": "parent", "href": f"./{COLLECTION}", "type": "application/json"},
            {"rel": "collection", "href": f"./{COLLECTION}", "type": "application/json"},
        ],
        "assets": assets,
    }


def _collection(experiment: str, items: Sequence[Json]) -> Json:
    boxes = np.array([item["bbox"] for item in items])
    whole = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    begins = min(item["properties"]["start_datetime"] for item in items)
    ends = max(item["properties"]["end_datetime"] for item in items)
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "id": experiment,
        "description": f"Forecasts of {experiment}, an emulator of UFS Replay",
        "license": LICENSE,
        "extent": {"spatial": {"bbox": [whole]}, "temporal": {"interval": [[begins, ends]]}},
        "links": [
            {"rel": "root", "href": f"../{CATALOG}", "type": "application/json"},
            {"rel": "parent", "href": f"../{CATALOG}", "type": "application/json"},
            *({"rel": "item", "href": f"./{one['id']}.json", "type": "application/geo+json"} for one in items),
        ],
    }


def _catalog(experiments: Sequence[str]) -> Json:
    return {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": "graphufs",
        "description": "Forecasts below a root of graphufs, by experiment",
        "links": [
            {"rel": "root", "href": f"./{CATALOG}", "type": "application/json"},
            *({"rel": "child", "href": f"./{one}/{COLLECTION}", "type": "application/json"} for one in experiments),
        ],
    }


def _write(path: Path, content: Json) -> Path:
    text = json.dumps(content, indent=2) + "\n"
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return path
    write_text(path, text)
    return path


def _text(time: np.datetime64) -> str:
    return datetime.fromtimestamp(int(time.astype("datetime64[s]").astype(np.int64)), UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


def _bbox(latitude: np.ndarray, longitude: np.ndarray) -> list[float]:
    """West, south, east, north in degrees, longitudes from -180 to 180; of a grid round the globe all of them."""
    south, north = float(latitude.min()), float(latitude.max())
    spacing = 360 / max(longitude.size, 1)
    if np.ptp(longitude) + 1.5 * spacing >= 360:
        return [-180.0, south, 180.0, north]
    west, east = (float((one + 180) % 360 - 180) for one in (longitude[0], longitude[-1]))
    return [west, south, east, north]


def _polygon(bbox: Sequence[float]) -> Json:
    west, south, east, north = bbox
    corners = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [corners]}
