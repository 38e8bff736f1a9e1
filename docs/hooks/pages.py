"""MkDocs hook: pages made of the code, of notebooks and of files at the top of the repository.

Nothing is fetched, and a built page that would fetch something by itself ends the build.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]

import command_line  # noqa: E402
import components  # noqa: E402
import formulas  # noqa: E402
import notebooks  # noqa: E402
import presets  # noqa: E402
import schemas  # noqa: E402

PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": command_line.page,
    "reference/settings.md": schemas.settings_page,
    "reference/results.md": schemas.results_page,
    "reference/components.md": components.page,
    "reference/recipes.md": presets.recipes_page,
    "reference/spaces.md": presets.spaces_page,
}
TOP = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "reference/bundle.md": "readers/FORMAT.md",
    "security.md": "SECURITY.md",
}
PICTURES = {
    "images/quality.png": "benchmarks/results/quality.png",
    "images/frontier.png": "experiments/results/frontier.png",
}

_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//[^"']*"""
    r"""|<link\b(?=[^>]*\brel=["'](?:stylesheet|preload|preconnect|icon)\b)[^>]*"""
    r"""\bhref=["'](?:https?:)?//[^"']*""",
    re.IGNORECASE,
)

_FILES = re.compile(
    r"\]\((?:(?P<notebook>(?:\.\./)?tutorials/[\w-]+)\.ipynb|\.\./\.\./(?P<file>[\w./-]+))(?=[)#])"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file in docs/ holds."""
    for place, make in PAGES.items():
        files.append(File.generated(config, place, content=make()))
    for place, source in TOP.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
    for place, source in PICTURES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        content = notebooks.markdown(path)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn formulas into MathML, which needs no script, and links to files into those to pages."""
    return formulas.as_mathml(_FILES.sub(_page_of, markdown))


def _page_of(link: re.Match[str]) -> str:
    """Return a link to the page that is made of a file; links name files, for whoever reads these.

    Args:
        link: to a notebook, or to a file outside docs/.
    """
    if link["notebook"]:
        return f"]({link['notebook']}.md"
    places = {source: place for place, source in (TOP | PICTURES).items()}
    return f"](../{places[link['file']]}" if link["file"] in places else link[0]


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that would fetch something from elsewhere."""
    found = _FETCHED.search(output)
    if found is not None:
        raise PluginError(f"{page.file.src_uri}: fetches from elsewhere: {found[0]:.200}")
    return output
