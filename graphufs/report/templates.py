"""Templates of pages, filled in: what a page names must be given, and text is escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2


def filled(name: str, /, *, package: str = "graphufs.report", **values: Any) -> str:
    """The HTML that a template `name`.html.j2 of a package makes of values."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string((files(package) / f"{name}.html.j2").read_text("utf-8")).render(**values)
