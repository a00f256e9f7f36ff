"""The reference of Airflow's DAGs, from their files: no Airflow is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

INTRODUCTION = """# DAGs

What each DAG's page in Airflow says of it, made from the files in `dags/`. [Airflow](../airflow.md) is about their use.
"""


def page(folder: Path) -> str:
    """The DAGs of a folder, as Markdown: id, schedule and docstring of each."""
    lines = [INTRODUCTION]
    for file in sorted(folder.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [str(name) for name in _keywords(tree, "dag_id")]
        if not names:
            continue
        lines += [f"## {', '.join(names)}", "", ast.get_docstring(tree) or "", ""]
        for variable, schedule in _schedules(tree):
            lines += [f"By the clock at `{schedule}` (cron, UTC); `{variable}` sets another time.", ""]
    return "\n".join(lines)


def _keywords(tree: ast.AST, name: str) -> Iterator[object]:
    """The literal values of a keyword, wherever something is called with it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == name and isinstance(node.value, ast.Constant):
            yield node.value.value


def _schedules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The environment's variable and the default of `SCHEDULE = os.environ.get(variable, default)`."""
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "SCHEDULE"
            and isinstance(node.value, ast.Call)
        ):
            variable, default = (ast.literal_eval(one) for one in node.value.args)
            yield variable, default
