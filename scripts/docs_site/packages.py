"""The picture of the packages for the site: floors and layers as boxes, from the imports as scripts/architecture.py.

The page itself has the picture as Mermaid, which needs a large program in the browser; boxes need none and fit a phone.
"""

from __future__ import annotations

from pathlib import Path

from scripts.architecture import FLOORS, Tree, layers

CAPTION = """Floors and layers: each package imports only what lies below it. The picture with arrows, of which the next
lines speak, is in the file `docs/architecture.md`.
"""


def boxes(repository: Path) -> str:
    """The floors, the highest first, with their layers one below the other, as HTML."""
    tree = Tree(repository)
    parts = ['<div class="floors">']
    for floor, note in FLOORS.items():
        parts.append(f'<div class="floor"><p><strong>{floor}</strong> {note}</p>')
        for layer in reversed(layers(repository / "pyproject.toml", tree, floor)):
            inside = "".join(f"<code>{box.partition('.')[2]}</code>" for box in layer)
            parts.append(f'<div class="layer">{inside}</div>')
        parts.append("</div>")
    return "\n".join([*parts, "</div>", "", CAPTION])
