#!/usr/bin/env python3
"""Draw the picture in docs/architecture.md from the imports, and check that the page has a line for each package.

    python scripts/architecture.py            # write the picture, as Mermaid, into the page
    python scripts/architecture.py --check    # exit 1 where the picture is out of date or a package has no line

Imports are read from the syntax trees; nothing is imported. The order of the layers is that of import-linter's
`layers` contracts in pyproject.toml; where a floor has none, that of `ORDER`. What the order does not name is placed
above what it imports.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

FLOORS = {
    "dags": "when: Airflow's schedules and forms",
    "jobs": "where: Slurm or a local process, and the link to Airflow",
    "graphufs": "the work: from data to scores; knows no cluster",
}
"""The floors, the highest first, and what each decides."""
ORDER = {
    "dags": "",
    "jobs": "site scheduler job worker submission preflight experiments hand_out catalogue cli airflow",
    "graphufs": "errors vocabulary config steps parallel storage forcings grid graph model replay sources data "
    "normalization emulator weatherbench demo_bar deepmind train forecast report registry nightly retraining cli",
}
"""The layers of a floor without a contract, the lowest first."""
PAGE = "docs/architecture.md"
PICTURE = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)
"""Where the picture is in the page."""
Arrow = tuple[str, str]


class Tree:
    """The modules below the three floors. What has a box is named by the first two parts of a module's name.

    `files` are by dotted name; `packages` have `dags` among them; `edges` say by box what it imports. By floor, `boxes`
    are its packages and those of its loose modules that something imports, and `alone` are those that nothing imports.
    """

    def __init__(self, repository: Path) -> None:
        self.files: dict[str, Path] = {}
        for floor in FLOORS:
            for file in sorted((repository / floor).rglob("*.py")):
                parts = file.relative_to(repository).with_suffix("").parts
                self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        self.packages = sorted({"dags", *(name for name, file in self.files.items() if file.name == "__init__.py")})
        self.edges: dict[str, set[str]] = defaultdict(set)
        for name, file in self.files.items():
            for found in self._imports(file):
                if box_of(found) != box_of(name):
                    self.edges[box_of(name)].add(box_of(found))
        used = set().union(*self.edges.values())
        self.boxes: dict[str, list[str]] = {}
        self.alone: dict[str, list[str]] = {}
        for floor in FLOORS:
            inside = sorted({box_of(name) for name in self.files if name.startswith(f"{floor}.")})
            self.boxes[floor] = [one for one in inside if one in self.packages or one in used or floor == "dags"]
            self.alone[floor] = [one for one in inside if one not in self.boxes[floor] and not one.endswith("__")]

    def _imports(self, file: Path) -> set[str]:
        """Those of our modules that a file imports, at its top or inside functions."""
        found: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = {f"{node.module}.{alias.name}" for alias in node.names} & set(self.files)
                found |= modules or {node.module}
        return found & set(self.files)

    def label(self, box: str) -> str:
        """What a box says: its name, and the packages inside it, two in a line."""
        inner = [name.removeprefix(f"{box}.") for name in self.packages if name.startswith(f"{box}.")]
        return "<br/>".join([box.partition(".")[2], *(", ".join(inner[i : i + 2]) for i in range(0, len(inner), 2))])


def box_of(module: str) -> str:
    """The box of a module."""
    return ".".join(module.split(".")[:2])


def layers(project: Path, tree: Tree, floor: str) -> list[list[str]]:
    """The boxes of a floor in layers, the lowest first, by the contract in a pyproject.toml where there is one."""
    boxes, order = tree.boxes[floor], [[f"{floor}.{name}"] for name in ORDER[floor].split()]
    settings = tomllib.loads(project.read_text(encoding="utf-8"))
    for contract in settings.get("tool", {}).get("importlinter", {}).get("contracts", ()):
        for container in contract.get("containers", [""]) if contract["type"] == "layers" else ():
            prefix = f"{container}." if container else ""
            named = [[prefix + name for name in re.findall(r"[\w.]+", one)] for one in reversed(contract["layers"])]
            if any(name in boxes for layer in named for name in layer):
                order = named
    level = {name: float(number) for number, layer in enumerate(order) for name in layer if name in boxes}
    rest = [name for name in boxes if name not in level]
    while rest:
        name = next((name for name in rest if not tree.edges[name] & set(rest)), rest[0])
        level[name] = max((level[other] for other in tree.edges[name] if other in level), default=-1.0) + 0.5
        rest.remove(name)
    return [[name for name in sorted(level) if level[name] == number] for number in sorted(set(level.values()))]


def arrows_of(order: Sequence[Sequence[str]], edges: Mapping[str, set[str]]) -> tuple[list[Arrow], list[Arrow]]:
    """Arrows to lower layers that do not follow from others, and arrows that go up or sideways."""
    level = {box: number for number, layer in enumerate(order) for box in layer}
    inside = {box: sorted(edges.get(box, set()) & set(level)) for box in level}
    down = {box: [other for other in inside[box] if level[other] < level[box]] for box in level}
    reach: dict[str, set[str]] = {}
    for box in level:
        reach[box] = set(down[box]).union(*(reach[other] for other in down[box]))
    kept = [(a, b) for a in level for b in down[a] if not any(b in reach[other] for other in down[a])]
    return kept, [(a, b) for a in level for b in inside[a] if b not in down[a]]


def picture(repository: Path, tree: Tree) -> str:
    """The picture as Mermaid, which GitHub, GitLab and editors lay out."""
    lines, dashed = ["flowchart TB"], []
    for floor, note in FLOORS.items():
        boxes = tree.boxes[floor]
        arrows, against = arrows_of(layers(repository / "pyproject.toml", tree, floor), tree.edges)
        lines.append(f'  subgraph {floor}["{floor} - {note}"]')
        lines += [f'    {_id(box)}["{tree.label(box)}"]' for box in boxes]
        lines += [f"    {_id(a)} --> {_id(b)}" for a, b in arrows]
        lines += [f"    {_id(a)} -. against the order .-> {_id(b)}" for a, b in against]
        if tree.alone[floor]:
            names = ", ".join(one.partition(".")[2] for one in tree.alone[floor])
            lines.append(f'    {floor}_alone["run or loaded by name:<br/>{names}"]')
            dashed.append(f"{floor}_alone")
        lines.append("  end")
        foreign = {found for box in boxes for found in tree.edges[box]}
        for other in FLOORS:
            found = sorted(one.partition(".")[2] for one in foreign if other != floor and one.startswith(f"{other}."))
            lines += [f'  {floor} -- "{", ".join(found)}" --> {other}'] if found else []
        dashed += [_id(box) for box in boxes if box not in tree.packages]
    style = ["  classDef module stroke-dasharray: 4 3", f"  class {','.join(dashed)} module"] if dashed else []
    return "\n".join([*lines, *style]) + "\n"


def _id(box: str) -> str:
    return box.replace(".", "_")


def faults(page: str, tree: Tree) -> list[str]:
    """What is wrong with the page's lines on packages, which are written `| name | knows | must not know |`."""
    lines = re.findall(r"^\| *`([\w.]+)` *\|([^|]+)\|([^|]+)\|$", page, re.MULTILINE)
    complete = {name for name, knows, must_not in lines if knows.strip() and must_not.strip()}
    lacking = [name for name in tree.packages if name not in complete]
    unknown = [name for name, *_ in lines if name not in {*tree.files, "dags"}]
    return [f"{PAGE} has no complete line for the package {name}" for name in lacking] + [
        f"{PAGE} has a line for {name}, which does not exist" for name in unknown
    ]


def main() -> int:
    """Write the picture, or check it and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something is out of date")
    parser.add_argument("--repository", type=Path, default=Path(__file__).parents[1], help="the checkout to look at")
    options = parser.parse_args()
    tree, page = Tree(options.repository), options.repository / PAGE
    text, drawn = page.read_text(encoding="utf-8"), picture(options.repository, tree)
    now = PICTURE.sub(lambda _: drawn, text, count=1)
    if not options.check:
        page.write_text(now, encoding="utf-8")
        return 0
    found = faults(text, tree)
    if now != text or not PICTURE.search(text):
        found.append(f"the picture in {PAGE} is out of date; write it with `python scripts/architecture.py`")
    print("\n".join(found) or "architecture: the picture and the page agree with the imports")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
