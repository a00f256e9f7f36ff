"""The documentation site: built without a warning, and opened page by page from the file system in a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.docs_site import experiments, hooks, packages
from tests.docs.commands import PAGES, REPOSITORY
from tests.support.airflow.browser import skip_without_browser


def build(to: Path, configuration: str | None = None) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does, or by another configuration. (--quiet would have warnings not counted.)"""
    text = configuration or (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", "-", "--site-dir", str(to)],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        input=text,
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.mark.parametrize(
    ("target", "anchor", "home", "uri", "there"),
    [
        ("jobs.md", "#sites", "docs/airflow.md", "airflow.md", "jobs.md#sites"),
        ("../experiments/p0.yaml", "", "docs/training.md", "training.md", "reference/shipped.md#experiments-p0-yaml"),
        ("../../jobs/sites", "", "docs/howto/a.md", "howto/a.md", "../reference/shipped.md#jobs-sites"),
        ("docs/training.md", "", "CONTRIBUTING.md", "contributing.md", "training.md"),
        ("../CHANGELOG.md", "", "docs/index.md", "index.md", "changelog.md"),
        ("../gone.py", "", "docs/index.md", "index.md", "../gone.py"),
    ],
)
def test_links_out_of_the_folder_lead_to_pages_of_the_site(target, anchor, home, uri, there):
    assert hooks.within_site(target, anchor, home, uri) == there


def test_every_key_of_an_experiment_is_in_the_reference():
    page = experiments.keys_page()
    for key in ("name", "data.source.url", "training.stages.learning_rate.peak", "evaluation.era5.native_layers"):
        assert f"| `{key}` |" in page
    assert "| `training.batch_size` | whole number, at least 1, at most 1000000 | `16` |" in page
    assert "| `data.training` | period: `{start, end}` | required |" in page


def test_every_key_that_a_page_names_exists():
    known = experiments.keys_page()
    sections = "data|normalization|model|training|forecast|evaluation|nightly|retraining"
    named = re.compile(rf"`((?:{sections})\.(?!py\b|md\b|zarr\b)[a-z0-9_.]*[a-z0-9_])(?=[`:= ])")
    unknown = [
        f"{page.relative_to(REPOSITORY)}: {key}"
        for page in PAGES
        for key in named.findall(page.read_text(encoding="utf-8"))
        if not re.search(rf"(\| `|^### ){re.escape(re.sub(r'[.][0-9]+', '', key))}\b", known, re.MULTILINE)
    ]
    assert not unknown, "\n".join(unknown)


def test_every_dag_and_package_is_in_the_site():
    page = hooks.dags.page(REPOSITORY / "dags")
    for file in (REPOSITORY / "dags").glob("[!_]*.py"):
        assert f"## {file.stem}\n" in page
    assert "`GRAPHUFS_NIGHTLY_SCHEDULE` sets another time" in page
    assert "<code>weatherbench</code>" in packages.boxes(REPOSITORY)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_link_or_an_anchor_that_leads_nowhere_is_an_error(tmp_path):
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "nightly.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](jobs.md#nowhere) [b](gone.md) ![c](images/gone.png)\n")
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    done = build(tmp_path / "site", text.replace("docs_dir: docs", f"docs_dir: {tmp_path / 'docs'}"))
    assert done.returncode != 0
    for wrong in ("nowhere", "gone.md", "gone.png"):
        assert wrong in done.stderr


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("width", [1280, 390])
def test_the_site_opens_from_the_file_system(site: Path, width: int):
    """No page complains, asks another host for anything, lacks a picture, or is wider than the screen."""
    from playwright.sync_api import sync_playwright

    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    faults: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=skip_without_browser(),
            chromium_sandbox=os.geteuid() != 0,  # as root, in a container, there is none for it
        )
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: faults.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
        for file in pages:
            if file.name == "404.html":  # for servers: its links begin at the top of a host
                continue
            page.goto(file.as_uri())
            wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            broken = page.evaluate("[...document.images].filter(one => !one.naturalWidth).map(one => one.src)")
            name = file.relative_to(site)
            faults += [f"{name} is {wider} px wider than {width} px"] if wider > 0 else []
            faults += [f"{name} has no {picture}" for picture in broken]
        page.goto((site / "index.html").as_uri())
        page.evaluate("document.querySelector('[name=query]').focus()")
        page.keyboard.type("rollback")
        page.locator(".md-search-result__link").first.wait_for(timeout=120_000, state="attached")
        chromium.close()
    assert not faults, "\n".join(faults)
