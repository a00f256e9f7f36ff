"""MkDocs' hooks of this repository: generated pages, links to files outside docs/, and the picture of the packages.

mkdocs.yml names this file; `make docs` builds the site. Nothing that is generated is kept in the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.docs_site import commands, dags, experiments, packages

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the repository's top that the site shows, and where."""
SHIPPED = "reference/shipped.md"
"""The page with the files that a text may link to: shipped experiments and sites."""
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
MERMAID = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)


def pages() -> dict[str, str]:
    """The generated pages: Markdown by its place in the site."""
    return {
        "reference/graphufs.md": commands.page("graphufs"),
        "reference/graphufs-jobs.md": commands.page("graphufs-jobs"),
        "reference/experiments.md": experiments.keys_page(),
        SHIPPED: experiments.shipped_page(REPOSITORY),
        "reference/dags.md": dags.page(REPOSITORY / "dags"),
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and those of the repository's top to the site's files."""
    from mkdocs.structure.files import File

    for uri, text in pages().items():
        files.append(File.generated(config, uri, content=text))
    for name, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, content=(REPOSITORY / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links that hold inside the site, and the picture of the packages as boxes."""
    uri = page.file.src_uri
    home = {to: name for name, to in OUTSIDE.items()}.get(uri, f"docs/{uri}")
    markdown = MERMAID.sub(lambda _: packages.boxes(REPOSITORY), markdown)
    return LINK.sub(lambda link: within_site(link[1], link[2] or "", home, uri), markdown)


def within_site(target: str, anchor: str, home: str, uri: str) -> str:
    """Where a link leads to in the site.

    Parameters
    ----------
    target, anchor
        As written in the page; the anchor with its `#`, or empty.
    home, uri
        The page's place in the repository, and in the site.
    """
    place = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
    if place in OUTSIDE:
        place = OUTSIDE[place]
    elif place.startswith("docs/"):
        place = place.removeprefix("docs/")
    elif place == "jobs/sites" or place.startswith(("experiments/", "jobs/sites/")):
        place, anchor = SHIPPED, f"#{experiments.anchor(place)}"
    else:
        return target + anchor  # MkDocs says that there is no such page
    return posixpath.relpath(place, posixpath.dirname(uri) or ".") + anchor
