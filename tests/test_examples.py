"""The notebooks in examples/ run from top to bottom on `tiny`, as plain Python, and are stored without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import TINY

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, object]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def test_notebooks_are_stored_without_outputs():
    assert len(NOTEBOOKS) == 4
    for notebook in NOTEBOOKS:
        for cell in cells(notebook):
            assert cell["outputs"] == [] and cell["execution_count"] is None, f"clear the outputs of {notebook.name}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs(notebook, finished_root, copy_of_root, monkeypatch):
    monkeypatch.setenv("GRAPHUFS_ROOT", str(copy_of_root(finished_root)))
    monkeypatch.setenv("EXPERIMENT", str(TINY))
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {"__name__": notebook.stem}
    for number, cell in enumerate(cells(notebook)):
        code = compile("".join(cell["source"]), f"{notebook.name} cell {number}", "exec")
        exec(code, names)
