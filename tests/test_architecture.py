"""The picture of the packages: what is read from imports, in which order, and what the check finds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts import architecture

FILES = {
    "dags/night.py": "from jobs.airflow import forms",
    "jobs/__init__.py": "",
    "jobs/airflow/__init__.py": "",
    "jobs/airflow/forms.py": "def read():\n    from graphufs.config import loading",
    "jobs/run_it.py": "import jobs.airflow.forms",
    "graphufs/__init__.py": "",
    "graphufs/errors.py": "",
    "graphufs/config/__init__.py": "",
    "graphufs/config/loading.py": "from graphufs.errors import UserError",
    "graphufs/train/__init__.py": "",
    "graphufs/train/tracking/__init__.py": "",
    "graphufs/train/trainer.py": "from graphufs import errors\nfrom graphufs.config.loading import load",
    "graphufs/unnamed/__init__.py": "from graphufs.train import trainer",
    "pyproject.toml": "",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def layers(repository: Path) -> list[list[str]]:
    return architecture.layers(repository / "pyproject.toml", architecture.Tree(repository), "graphufs")


def test_imports_of_modules_inside_functions_too_become_edges_between_packages(repository):
    tree = architecture.Tree(repository)
    assert tree.edges["graphufs.train"] == {"graphufs.errors", "graphufs.config"}
    assert tree.edges["jobs.airflow"] == {"graphufs.config"} and tree.edges["dags.night"] == {"jobs.airflow"}
    assert tree.alone["jobs"] == ["jobs.run_it"] and tree.label("graphufs.train") == "train<br/>tracking"


def test_what_the_order_does_not_name_lies_above_what_it_imports(repository):
    assert layers(repository) == [[f"graphufs.{name}"] for name in ("errors", "config", "train", "unnamed")]


def test_the_contract_of_import_linter_is_the_order_where_there_is_one(repository):
    (repository / "pyproject.toml").write_text(
        '[tool.importlinter]\n[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = ["jobs", "graphufs"]\n'
        '[[tool.importlinter.contracts]]\ntype = "layers"\ncontainers = ["graphufs"]\n'
        'layers = ["unnamed | train", "(config)", "errors"]\n'
    )
    assert layers(repository) == [["graphufs.errors"], ["graphufs.config"], ["graphufs.train", "graphufs.unnamed"]]


def test_arrows_that_follow_from_others_are_left_out_and_those_against_the_order_are_kept(repository):
    edges = {"a": {"b", "c"}, "b": {"c"}, "c": {"a"}}
    assert architecture.arrows_of([["c"], ["b"], ["a"]], edges) == ([("b", "c"), ("a", "b")], [("c", "a")])


def test_the_picture_has_a_box_for_each_package_and_an_arrow_for_each_import(repository):
    lines = architecture.picture(repository, architecture.Tree(repository)).splitlines()
    assert '    graphufs_train["train<br/>tracking"]' in lines and "    graphufs_unnamed --> graphufs_train" in lines
    assert '    jobs_alone["run or loaded by name:<br/>run_it"]' in lines
    assert '  jobs -- "config" --> graphufs' in lines and '  dags -- "airflow" --> jobs' in lines
    assert "  class dags_night,jobs_alone,graphufs_errors module" in lines


def test_the_check_names_packages_without_a_line_lines_without_a_package_and_an_old_picture(
    repository, monkeypatch, capsys
):
    page = repository / architecture.PAGE
    page.parent.mkdir()
    rows = [f"| `{name}` | something | something |" for name in architecture.Tree(repository).packages]
    page.write_text("\n".join(["```mermaid", "```", *rows]))
    monkeypatch.setattr("sys.argv", ["architecture.py", "--repository", str(repository)])
    assert architecture.main() == 0
    monkeypatch.setattr("sys.argv", ["architecture.py", "--check", "--repository", str(repository)])
    assert architecture.main() == 0
    page.write_text("\n".join(["```mermaid", "```", *rows[1:], "| `graphufs.gone` | something | something |"]))
    (repository / "graphufs/train/trainer.py").write_text("")
    assert architecture.main() == 1
    said = capsys.readouterr().out
    assert "no complete line for the package dags" in said and "graphufs.gone, which does not exist" in said
    assert "the picture in docs/architecture.md is out of date" in said


PACKAGES = [
    path.parent
    for folder in ("graphufs", "jobs", "devstack", "scripts")
    for path in (Path(__file__).parents[1] / folder).rglob("__init__.py")
    # these offer names out of their modules instead
    if path.parent.name not in ("graphufs", "graph")
]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_all_of_a_package_names_its_modules(package: Path) -> None:
    statement = ast.parse((package / "__init__.py").read_text()).body[-1]
    assert isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert ast.literal_eval(statement.value) == sorted(name for name in modules if not name.startswith("_"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_folder_has_more_than_fifteen_modules(package: Path) -> None:
    modules = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 15, "divide it: what belongs together becomes a package of its own"
