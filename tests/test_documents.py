"""Every block of code in README and docs runs, and shows what it prints; notebooks run too."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from documents import ROOT, RUN, Block, blocks, commands, pages, run_block, run_command
from pydantic import BaseModel

from dglke_distill.config import plugins
from dglke_distill.models import SCORE_FUNCTIONS
from dglke_distill.training.losses import LOSSES
from dglke_distill.training.regularizers import REGULARIZERS

PAGES = [page for page in pages() if any(block.language in RUN for block in blocks(page))]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
PUBLISHED = os.environ.get("DGLKE_DISTILL_DATA")
NUMBER = re.compile(r"\d+\.\d+")
TINY = "--search none --control none --threads 1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what pages take for granted: a user's triples, a chain and a teacher."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "100")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("XDG_DATA_HOME", str(folder / "home"))
        patch.setenv("DGLKE_DISTILL_CACHE", str(folder / "cache"))
        patch.delenv("DGLKE_DISTILL_DATA", raising=False)
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        patch.setattr(sys, "path", [str(folder), *sys.path])
        facts = (ROOT / "datasets" / "cldr" / "train.txt").read_text(encoding="utf-8")
        (folder / "countries.tsv").write_text(facts, encoding="utf-8")
        yield folder


@pytest.fixture(scope="module")
def runs(place: Path) -> Path:
    """The runs that pages name."""
    chain = "--recipe none --model complex --method fan_out --dims 64,48,32 --epochs 1"
    run_command(f"dglke-distill run cldr {chain} {TINY} --out runs/fan_out-complex-cldr")
    run_command(
        "dglke-distill train cldr --model complex --dim 64 --epochs 1 --search none "
        "--threads 1 --out runs/teacher"
    )
    return place / "runs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_run_and_show_what_they_print(
    page: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a page registers, or names as a plug-in, is known to that page alone.
    monkeypatch.setenv(plugins.PLUGINS, "")
    monkeypatch.setattr(plugins, "_named", [])
    for registry in (SCORE_FUNCTIONS, LOSSES, REGULARIZERS):
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language in RUN and block.mark != "skip":
            try:
                run_block(block, names)
            except Exception as error:
                raise AssertionError(f"{page.name}, line {block.line}: {error}") from error


def test_what_is_skipped_says_why() -> None:
    marked = [block for page in PAGES for block in blocks(page) if block.mark == "skip"]
    assert marked
    for block in marked:
        assert re.search(
            r"minutes|hours|network|installs|index|download|bucket|stopped|library|OGB|gigabytes|"
            r"Slurm|second host|root",
            block.said,
        ), block


@pytest.mark.parametrize(
    "path",
    [
        # The one that needs a published dataset says so in its name.
        pytest.param(p, marks=[pytest.mark.realdata] if "fb15k237" in p.stem else [])
        for p in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
)
def test_notebooks_run_and_print_what_is_saved(
    path: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    if PUBLISHED is not None and "fb15k237" in path.stem:
        monkeypatch.setenv("DGLKE_DISTILL_DATA", PUBLISHED)

    notebook = nbformat.read(path, 4)
    saved = [printed(cell) for cell in notebook.cells]
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    for cell, before in zip(notebook.cells, saved):
        now = printed(cell)
        assert NUMBER.sub("#", now) == NUMBER.sub("#", before)
        assert numbers(now) == pytest.approx(numbers(before), abs=0.05)


def numbers(text: str) -> list[float]:
    """The numbers with a point in a text; their last digits depend on the machine."""
    return [float(found) for found in NUMBER.findall(text)]


def printed(cell: Any) -> str:
    """What a cell says on standard output, and its value."""
    parts = []
    for output in cell.get("outputs", ()):
        if output.get("name") != "stderr":
            parts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "".join(parts).strip()


def test_notebooks_are_plain() -> None:
    """No pictures, no noise, nothing that depends on who ran them."""
    assert len(NOTEBOOKS) >= 5
    for path in NOTEBOOKS:
        tree = json.loads(path.read_text(encoding="utf-8"))
        for cell in tree["cells"]:
            for output in cell.get("outputs", ()):
                assert output["output_type"] in ("stream", "execute_result"), path
                assert output.get("name") != "stderr", path
                assert set(output.get("data", {})) <= {"text/plain"}, path


# --- what the manual must hold ---------------------------------------------------------------


def test_every_setting_says_what_it_means() -> None:
    from dglke_distill.config import Config, components
    from dglke_distill.config.registry import Registry
    from dglke_distill.distill.chain_config import ChainConfig
    from dglke_distill.leaderboard.settings import About, SeedsConfig
    from dglke_distill.search.space import Range, Space

    waiting: list[Any] = [Config, ChainConfig, About, SeedsConfig, Range, Space]
    for registry in vars(components).values():
        if isinstance(registry, Registry):
            found = [registry.find(name) for name in registry]
            waiting += [each.Options for each in found if hasattr(each, "Options")]
    silent = []
    for kind in waiting:
        for name, field in kind.model_fields.items():
            inner = [
                each
                for each in (field.annotation, *get_args(field.annotation))
                if isinstance(each, type) and issubclass(each, BaseModel)
            ]
            waiting += [each for each in inner if each not in waiting]
            if not inner and not field.description:
                silent.append(f"{kind.__qualname__}.{name}")
    assert silent == []


def test_every_method_has_a_formula_or_says_whose_and_a_citation() -> None:
    from dglke_distill.config.components import METHODS, SCHEDULES, SOFT_LOSSES

    text = (ROOT / "docs" / "explanation" / "methods.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(METHODS)
    for name, said in sections.items():
        if name != "direct":
            assert "*Use it*" in said, name
            assert re.search(r"\b(?:19|20)\d\d\b", said), name
            assert "```math" in said or "that of `fan_out`" in said, name
    for name in (*SCHEDULES, *SOFT_LOSSES):
        assert f"| `{name}` |" in text, name


def test_the_layout_of_the_code_names_every_room() -> None:
    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (ROOT / "dglke_distill").glob("*/__init__.py")]
    assert [room for room in rooms if f"\n  {room}/" not in text] == []


# --- the harness itself -----------------------------------------------------------------------


def test_a_block_that_prints_something_else_fails() -> None:
    wrong = Block(1, "python", ">>> 1 + 1\n3\n", None, "")
    with pytest.raises(AssertionError, match="Expected"):
        run_block(wrong, {})
    shown = Block(1, "console", "$ echo hello\nhullo\n", None, "")
    with pytest.raises(AssertionError, match="hullo"):
        run_block(shown, {})
    run_block(Block(1, "console", "$ echo hello\nhel...\n", None, ""), {})
    with pytest.raises(AssertionError):
        run_block(Block(1, "bash", "false\n", None, ""), {})


def test_blocks_are_found_with_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n<!-- skip: takes minutes -->\n```bash\na \\\n  b\n# no\n```\n"
        "```python\nx = 1\n```\n<!-- quick: --epochs 1 -->\n```console\n$ one\n1\n2\n$ two\n```\n"
    )
    first, second, third = blocks(page)
    assert (first.mark, first.said, first.line) == ("skip", "takes minutes", 3)
    assert [line.split() for line, _ in commands(first)] == [["a", "b"]]
    assert (second.language, second.code, second.mark) == ("python", "x = 1\n", None)
    assert third.said == "--epochs 1"
    assert commands(third) == [("one", "1\n2\n"), ("two", "")]


def test_filtering_candidates_is_two_clicks_from_the_first_page() -> None:
    """One click opens the page, another the part; both links are on the site's first page too."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert re.search(r"^      - [^\n]*filter candidates: how-to/ask\.md$", nav, re.MULTILINE)
    first = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    row = next(line for line in first.splitlines() if "filter the candidates" in line)
    assert "(how-to/ask.md#filter-the-candidates)" in row
    page = (ROOT / "docs" / "how-to" / "ask.md").read_text(encoding="utf-8")
    assert re.search(r"^## Filter the candidates$", page, re.MULTILINE)


def test_links_of_pages_lead_to_files() -> None:
    """A page is read in its repository, too; only pages that the site makes have no file."""
    pages = (ROOT / "docs" / "hooks" / "pages.py").read_text(encoding="utf-8")
    made = set(re.findall(r'^    "(reference/[^"]+)": \w+\.\w+,$', pages, re.MULTILINE))
    assert "reference/components.md" in made
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for link in re.findall(r"\]\(([\w./-]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            there = (page.parent / link).resolve()
            known = (ROOT / "docs" / place for place in made)
            assert there.exists() or there in known, f"{page.relative_to(ROOT)}: {link}"
