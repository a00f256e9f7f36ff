"""The layout of public docstrings, read from the syntax trees: what each function says of itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("graphufs", "jobs", "dags", "scripts", "devstack")

ONE_LINE = re.compile(r"[\w*`]+(, [\w*`]+)* : \S")
"""`name : text`; numpy's layout has the name on a line of its own and the text indented under it."""
ARRAY = re.compile(r"\b(ndarray|NDArray|ArrayLike|Array|DataArray)\b")
SHAPE = re.compile(
    r"\[(?=[^\]]*([a-z]{3}|\.\.\.))[\w. *+(),-]+\]|\b(shapes?|axis|axes|dimensions?|scalars?|broadcast|1-D)\b", re.I
)
"""Axes in brackets, as in [lead, lat, lon] or [..., 3] but not a unit such as [K] or [kg/kg]; or a word for them."""


class Documented(NamedTuple):
    """A public module-level function, class or method."""

    where: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    docstring: str
    of_class: str
    """The docstring of a method's class, which may say the shape of all its arrays."""


def public(folder: str) -> Iterator[Documented]:
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        yield from documented(str(path.relative_to(REPOSITORY)), ast.parse(path.read_text()), "")


def documented(where: str, parent: ast.Module | ast.ClassDef, of_class: str) -> Iterator[Documented]:
    for node in parent.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            docstring = ast.get_docstring(node) or ""
            yield Documented(f"{where}:{node.lineno} {node.name}", node, docstring, of_class)
            if isinstance(node, ast.ClassDef):
                yield from documented(where, node, docstring)


def raised(node: ast.AST) -> Iterator[str]:
    """The names of the exceptions a function raises itself, outside functions inside it and what it catches again."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and child.exc is not None:
            yield ast.unparse(child.exc.func if isinstance(child.exc, ast.Call) else child.exc)
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from raised(child)


def has_arrays(node: ast.AST) -> bool:
    if isinstance(node, ast.ClassDef):
        return False
    of_arguments = (one.annotation for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs))
    return any(ARRAY.search(ast.unparse(one)) for one in (*of_arguments, node.returns) if one is not None)


def faults(one: Documented) -> Iterator[str]:
    if not one.docstring:
        yield "has no docstring"
    for line in one.docstring.splitlines():
        if ONE_LINE.match(line):
            yield f"has a name and its text on one line: {line}"
    if isinstance(one.node, ast.ClassDef):
        return
    if "UserError" in raised(one.node) and "\nRaises\n------\n" not in one.docstring:
        yield "raises UserError and has no section Raises"
    if has_arrays(one.node) and not SHAPE.search(f"{one.docstring}\n{one.of_class}"):
        yield "takes or returns arrays and says no shape, such as [lead, lat, lon]"


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_docstrings_have_numpys_layout_and_say_shapes_and_errors(folder: str) -> None:
    found = [f"{one.where} {fault}" for one in public(folder) for fault in faults(one)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def f(): pass", "has no docstring"),
        ("class C:\n    'What.'\n    def f(self): pass", "has no docstring"),
        ("def f(a, b):\n    '''What.\n\n    a, b : text\n    '''", "one line"),
        ("def f():\n    'What.'\n    if True: raise UserError('no')", "no section Raises"),
        ("def f(x: dict[str, np.ndarray]):\n    'Temperature [K] at x[0].'", "no shape"),
        ("def f() -> xr.DataArray | None:\n    'Humidity [kg/kg].'", "no shape"),
    ],
)
def test_a_docstring_of_another_layout_is_found(source: str, fault: str) -> None:
    (found,) = (fault for one in documented("here", ast.parse(source), "") for fault in faults(one))
    assert fault in found


@pytest.mark.parametrize(
    "source",
    [
        "def _f(x: np.ndarray): raise UserError('no')",
        "def f(x: jax.Array) -> int:\n    'How many of x [..., 3].'\n    def g(): raise UserError('no')",
        "def f():\n    '''A.\n\n    Raises\n    ------\n    UserError\n        If.\n    '''\n    raise UserError(0)",
        "class C:\n    'Fields [lat, lon].'\n    def f(self) -> np.ndarray:\n        'Their sum.'",
    ],
)
def test_a_docstring_of_this_layout_is_left_alone(source: str) -> None:
    assert not [fault for one in documented("here", ast.parse(source), "") for fault in faults(one)]
