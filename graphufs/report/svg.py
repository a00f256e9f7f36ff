"""How figures look: drawn by matplotlib as SVG, with colours left to the page so that they suit light and dark.

Matplotlib draws with stand-in colours; in the SVG each is replaced by a CSS variable of the page. Text stays text, in
the page's font. The line colours are Okabe and Ito's, told apart by colour-blind readers, and every line has its own
dashes too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """A forecast's line: the name of its colour on the page, its dashes, and its width in points."""

    colour: str
    dashes: tuple[float, ...]
    width: float = 1.6


LINES: Mapping[str, Line] = {
    "emulator": Line("emulator", (), 2.4),
    "persistence": Line("persistence", (5, 2)),
    "damped_persistence": Line("damped", (5, 1.5, 1, 1.5)),
    "climatology": Line("climatology", (1.5, 1.5)),
    "replay": Line("replay", (8, 2, 1, 2)),
    "probabilistic_climatology": Line("years", (3, 1.5)),
}

_STAND_INS = {
    "text": "#010203",
    "muted": "#010204",
    "grid": "#010205",
    "emulator": "#010206",
    "persistence": "#010207",
    "damped": "#010208",
    "climatology": "#010209",
    "replay": "#01020a",
    "years": "#01020b",
}
TEXT, MUTED, GRID = _STAND_INS["text"], _STAND_INS["muted"], _STAND_INS["grid"]

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": TEXT,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def page_style() -> Markup:
    """The style sheet of the pages."""
    return Markup((files("graphufs.report") / "page.css").read_text("utf-8"))


def colour(name: str) -> str:
    """The colour matplotlib is given for a colour of the page."""
    return _STAND_INS[name]


@contextmanager
def drawing(identity: str) -> Iterator[None]:
    """Matplotlib's settings while a figure is drawn and saved; `identity` keeps ids apart on the page."""
    settings: Any = _SETTINGS | {"svg.hashsalt": identity}
    with matplotlib.rc_context(settings):
        yield


def to_svg(figure: Figure, alternative: str) -> str:
    """The figure as an inline SVG that scales with the page; `alternative` tells what it shows to those who listen.

    Call it within `drawing`.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", dpi=110, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page's own font: the SVG names matplotlib's, which readers may not have.
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would reach beyond the figure
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every figure, and used by none
    for name, stand_in in _STAND_INS.items():
        text = text.replace(stand_in, f"var(--{name})")
    view_box = re.search(r'viewBox="([^"]+)"', text)
    box = view_box.group(1) if view_box else "0 0 100 100"
    label = alternative.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    # No namespaces either: inline SVG needs none, and the page names no address at all.
    return re.sub(
        r"<svg[^>]*>", f'<svg class="figure" role="img" aria-label="{label}" viewBox="{box}">', text, count=1
    ).replace("xlink:href", "href")
