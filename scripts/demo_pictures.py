"""What the demo shows besides words: a map of a first forecast, and pages in a browser where there is one."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from graphufs.errors import UserError
from jobs.job.folder import JobFolder

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def first_map(forecasts: Path, picture: Path) -> Path:
    """Draw the first forecast of a store, its first target at its middle level at the last lead, as a PNG file.

    Raises
    ------
    UserError
        If the store cannot be opened.
    """
    from graphufs.emulator.plots import plot_map
    from graphufs.storage.zarr_io import open_zarr

    dataset = open_zarr(forecasts, what="the forecasts")
    name = next((str(name) for name in dataset if "level" in dataset[name].dims), str(next(iter(dataset))))
    level = None
    if "level" in dataset[name].dims:
        level = float(dataset["level"].values[dataset.sizes["level"] // 2])
    picture.parent.mkdir(parents=True, exist_ok=True)
    plot_map(dataset, name, level).savefig(picture, dpi=120)
    return picture


def forecasts_of(root: Path, key: str) -> Path:
    """Where the job of a key has put its forecasts.

    Raises
    ------
    UserError
        If it does not say so.
    """
    result = (JobFolder(root, key).result() or {}).get("result", {})
    if "forecasts" not in result:
        raise UserError(f"the job {key} does not say where its forecasts are")
    return Path(result["forecasts"])


def open_in_browser(place: str) -> bool:
    """Show a page where there is a screen and somebody sits before it; whether there is."""
    screen = sys.platform == "darwin" or any(os.environ.get(name) for name in DISPLAYS)
    return bool(screen and sys.stdout.isatty() and webbrowser.open(place))
