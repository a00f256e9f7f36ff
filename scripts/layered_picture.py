"""A picture of boxes in layers with arrows between them, as SVG: the same bytes for the same boxes and arrows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

WIDTH, GAP, BETWEEN, LINE, NAME, SMALL = 1000.0, 44.0, 30.0, 16.0, 7.9, 6.7
"""Pixels: the picture's width, between rows, between boxes, a line of text, a character of a name and of small text."""
ROOM = 945.0
"""Most pixels that the boxes of a row take."""
STYLE = """text{font:13px "DejaVu Sans",Verdana,sans-serif;fill:#1b2a38}.name,.inner{text-anchor:middle;
font-family:"DejaVu Sans Mono",Menlo,Consolas,monospace}.name{font-weight:bold}.inner{font-size:11px;fill:#44586a}
.floor{font-size:17px;font-weight:bold}.note{fill:#44586a}.panel{fill:#f4f7fa;stroke:#c3d0dc}
.box{fill:#fff;stroke:#2f6690;stroke-width:1.5}.dashed{fill:#fff;stroke:#7c91a5;stroke-dasharray:4 3}
path{fill:none;stroke:#5f7d99;stroke-width:1.3}.between{stroke:#1b2a38;stroke-width:3}
.against{stroke:#c0392b;stroke-width:2}#head path{fill:#2f4a63;stroke:none}"""

Edges = Mapping[str, set[str]]
Arrow = tuple[str, str]


@dataclass(frozen=True)
class Panel:
    """A framed part of the picture.

    Attributes
    ----------
    layers
        names of boxes, the lowest layer first; arrows should go from higher to lower layers
    edges
        by box, where its arrows go; other names than those of boxes are left out
    labels
        by box, its lines of text, the first one in bold
    dashed
        boxes with a dashed outline
    below
        text beside the arrow to the next panel
    """

    title: str
    note: str
    layers: Sequence[Sequence[str]]
    edges: Edges
    labels: Mapping[str, Sequence[str]]
    dashed: frozenset[str] = frozenset()
    footer: str = ""
    below: str = ""

    def width(self, box: str) -> float:
        """How wide a box is, in pixels."""
        first, *others = self.labels[box]
        return max(NAME * len(first), *(SMALL * len(line) for line in others), 36.0) + 20

    def height(self, box: str) -> float:
        """How high a box is, in pixels."""
        return LINE * len(self.labels[box]) + 12


def arrows_of(panel: Panel) -> tuple[list[Arrow], list[Arrow]]:
    """Arrows to lower layers that do not follow from others, and arrows that go up or sideways."""
    level = {box: number for number, layer in enumerate(panel.layers) for box in layer}
    inside = {box: sorted(panel.edges.get(box, set()) & set(level)) for box in level}
    down = {box: [other for other in inside[box] if level[other] < level[box]] for box in level}
    reach: dict[str, set[str]] = {}
    for box in level:
        reach[box] = set(down[box]).union(*(reach[other] for other in down[box]))
    kept = [(a, b) for a in level for b in down[a] if not any(b in reach[other] for other in down[a])]
    return kept, [(a, b) for a in level for b in inside[a] if b not in down[a]]


def rows_of(panel: Panel, arrows: Sequence[Arrow]) -> list[list[list[str]]]:
    """The rows of a panel, the highest first. A row is a list of chains, with arrows from left to right in a chain."""
    rows: list[list[list[str]]] = [[]]
    for layer in panel.layers:
        trial = [list(boxes) for boxes in rows[-1]]
        present = set(chain(*trial))
        fits = True
        for box in layer:
            targets = [b for a, b in arrows if a == box and b in present]
            left_of = next((boxes for boxes in trial if targets == boxes[:1]), None)
            fits = fits and (left_of is not None or not targets)
            if left_of is None:
                trial.append([box])
            else:
                left_of.insert(0, box)
        if fits and sum(panel.width(box) + BETWEEN for box in chain(*trial)) <= ROOM:
            rows[-1] = trial
        else:
            rows.append([[box] for box in layer])
    return rows[::-1]


def spread(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Centres nearest to the wanted ones, in this order, side by side without overlap (isotonic regression)."""
    offsets = [sum(widths[:i]) + widths[i] / 2 for i in range(len(widths))]
    blocks: list[list[float]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append([want - offset])
        while len(blocks) > 1 and sum(blocks[-2]) / len(blocks[-2]) > sum(blocks[-1]) / len(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    starts = [sum(block) / len(block) for block in blocks for _ in block]
    most = max(WIDTH - 20 - sum(widths), 20.0)
    return [min(max(start, 20.0), most) + offset for start, offset in zip(starts, offsets, strict=True)]


class Drawing:
    """A panel with a place for everything in it, from `top` to `bottom`.

    An arrow over several rows goes through a narrow place of its own, named `number A>B`, in each row between.
    """

    def __init__(self, panel: Panel, top: float) -> None:
        self.panel, self.top = panel, top
        arrows, self.against = arrows_of(panel)
        self.lines = rows_of(panel, arrows)
        self.row = {box: number for number, line in enumerate(self.lines) for box in chain(*line)}
        row = self.row
        self.paths = [[a, *(f"{number} {a}>{b}" for number in range(row[a] + 1, row[b])), b] for a, b in arrows]
        self.near: dict[str, set[str]] = defaultdict(set)
        for path in self.paths:
            for place in path[1:-1]:
                self.lines[int(place.split()[0])].append([place])
            for a, b in pairwise(path) if row[path[0]] != row[path[-1]] else ():
                self.near[a].add(b)
                self.near[b].add(a)
        self.room: dict[str, float] = {}
        for line in self.lines:
            taken = {box: panel.width(box) + BETWEEN for box in chain(*line) if box in row}
            narrow = min(14.0, (WIDTH - 60 - sum(taken.values())) / max(len(line) - len(taken), 1))
            self.room |= {one: taken.get(one, narrow) for one in chain(*line)}
        self.x: dict[str, float] = {}
        self._place()
        self.y: dict[str, float] = {}
        self.end: dict[str, float] = {}
        cursor = top + 40
        for line in self.lines:
            tall = max(panel.height(box) for box in chain(*line) if box in row)
            for one in chain(*line):
                height = panel.height(one) if one in row else tall
                self.y[one], self.end[one] = cursor + (tall - height) / 2, cursor + (tall + height) / 2
            cursor += tall + GAP
        self.bottom = cursor - GAP + (36 if panel.footer else 16)

    def _place(self) -> None:
        """Move all that lies in a row towards what it is joined to in the rows above and below."""
        for line in self.lines:
            self.x |= {one: WIDTH * (i + 0.5) / len(line) for i, boxes in enumerate(line) for one in boxes}
        for turn in range(40):
            for line in self.lines if turn % 2 else self.lines[::-1]:
                want = {}
                for boxes in line:
                    pull = [self.x[other] for one in boxes for other in sorted(self.near[one])]
                    pull = pull or [self.x[one] for one in boxes]
                    want[boxes[0]] = round(sum(pull) / len(pull), 3)
                line.sort(key=lambda boxes: (want[boxes[0]], boxes))
                widths = [sum(self.room[one] for one in boxes) for boxes in line]
                for boxes, centre in zip(line, spread([want[boxes[0]] for boxes in line], widths), strict=True):
                    left = centre - sum(self.room[one] for one in boxes) / 2
                    for one in boxes:
                        self.x[one] = left + self.room[one] / 2
                        left += self.room[one]
            aside = (min(self.x.values()) + max(self.x.values()) - WIDTH) / 2
            self.x = {one: x - aside for one, x in self.x.items()}

    def _port(self, box: str, other: str) -> float:
        """Where on a box's side the arrow to or from `other` is: beside those of the same side, in order."""
        if box not in self.row:
            return self.x[box]
        lower = self.y[other] > self.y[box]
        side = sorted((self.x[one], one) for one in self.near[box] if (self.y[one] > self.y[box]) == lower)
        step = min(14.0, (self.panel.width(box) - 16) / len(side))
        return self.x[box] + ([one for _, one in side].index(other) - (len(side) - 1) / 2) * step

    def _arrow(self, path: Sequence[str]) -> str:
        a, b = path[0], path[-1]
        if self.row[a] == self.row[b]:
            start, stop = self.x[a] + self.panel.width(a) / 2, self.x[b] - self.panel.width(b) / 2
            return f"M{start:.0f},{(self.y[a] + self.end[a]) / 2:.0f} H{stop:.0f}"
        line = f"M{self._port(a, path[1]):.0f},{self.end[a]:.0f}"
        for upper, lower in pairwise(path):
            here, there = self._port(upper, lower), self._port(lower, upper)
            half = (self.end[upper] + self.y[lower]) / 2
            line += f" C{here:.0f},{half:.0f} {there:.0f},{half:.0f} {there:.0f},{self.y[lower]:.0f}"
            line += "" if lower in self.row else f" V{self.end[lower]:.0f}"
        return line

    def svg(self) -> list[str]:
        """The panel's elements."""
        panel, top, bottom = self.panel, self.top, self.bottom
        made = [
            f'<rect class="panel" x="8" y="{top:.0f}" width="{WIDTH - 16:.0f}" height="{bottom - top:.0f}" rx="8"/>',
            f'<text class="floor" x="24" y="{top + 26:.0f}">{panel.title}</text>',
            f'<text class="note" x="124" y="{top + 26:.0f}">{panel.note}</text>',
            f'<text class="note" x="24" y="{bottom - 12:.0f}">{panel.footer}</text>',
        ]
        made += [f'<path marker-end="url(#head)" d="{self._arrow(path)}"/>' for path in self.paths]
        for a, b in self.against:
            line = f"M{self.x[a]:.0f},{self.y[a]:.0f} L{self.x[b]:.0f},{self.end[b]:.0f}"
            made.append(f'<path class="against" marker-end="url(#head)" d="{line}"/>')
        for box in self.row:
            width, kind = panel.width(box), "dashed" if box in panel.dashed else "box"
            place = f'x="{self.x[box] - width / 2:.0f}" y="{self.y[box]:.0f}"'
            size = f'width="{width:.0f}" height="{self.end[box] - self.y[box]:.0f}"'
            made.append(f'<rect class="{kind}" {place} {size} rx="4"/>')
            for number, text in enumerate(panel.labels[box]):
                place = f'x="{self.x[box]:.0f}" y="{self.y[box] + 18 + number * LINE:.0f}"'
                made.append(f'<text class="{"inner" if number else "name"}" {place}>{text}</text>')
        return made


def draw(title: str, panels: Sequence[Panel], legend: Sequence[str]) -> str:
    """The panels one below the other, as the text of an SVG file."""
    made: list[str] = []
    top = 8.0
    for panel in panels:
        drawing = Drawing(panel, top)
        made += drawing.svg()
        top = drawing.bottom + (38 if panel.below else 0)
        if panel.below:
            made.append(f'<path class="between" marker-end="url(#head)" d="M60,{drawing.bottom:.0f} v30"/>')
            made.append(f'<text class="note" x="84" y="{drawing.bottom + 24:.0f}">{panel.below}</text>')
    height = top + 16 + 18 * len(legend)
    marker = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}" height="{height:.0f}"',
        f'     viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        f'<defs><marker id="head" {marker} orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>',
        f'<rect width="{WIDTH:.0f}" height="{height:.0f}" style="fill:#fff"/>',
    ]
    for number, line in enumerate(legend, 1):
        made.append(f'<text class="note" x="24" y="{top + 4 + 18 * number:.0f}">{line}</text>')
    return "\n".join([*head, *made, "</svg>"]) + "\n"
