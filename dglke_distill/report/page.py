"""The page that reports share: its head, its styles, and the sections that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dglke_distill import __version__
from dglke_distill.artifacts.results import DatasetDescription
from dglke_distill.base.shown import plural
from dglke_distill.report.numbers import NONE, bytes_text, printable
from dglke_distill.report.run_results import ShownStage
from dglke_distill.report.tables import Table
from dglke_distill.report.theme import inline_svg, variables

_FOLDER = Path(__file__).resolve().parent
_NAMES = {
    "version": "dglke_distill",
    "git": "Revision",
    "python": "Python",
    "hardware.cpu": "Processor",
    "hardware.cores": "Cores",
    "hardware.memory_bytes": "Memory",
    "hardware.cuda": "CUDA devices",
    "platform": "Platform",
    "date": "Date",
}


@dataclass(frozen=True)
class Drawing:
    """A figure as a page shows it.

    Attributes:
        name: of its files, and of its place in the page.
        title: heading.
        description: what it shows, in words, for who cannot see it.
        note: what to know when reading it.
        svg: as ``theme.svg`` returned it for the light theme.
    """

    name: str
    title: str
    description: str
    note: str
    svg: str


@dataclass(frozen=True)
class KeyFigure:
    """One of the few figures at the top of a page."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class PageSection:
    """A heading and what stands below it, in the order of the attributes; ``page.html`` writes it.

    Attributes:
        title: the heading.
        name: its place in the page, for links; None for none.
        kind: a class for ``page.css``.
        text: a paragraph.
        cards: the few figures that a reader looks for first.
        table: figures in rows, under its ``caption``.
        caption: what the table shows.
        drawing: a figure.
        items: a list's lines; ``items_kind`` is their class for ``page.css``.
        items_kind: see ``items``.
        pairs: names and values.
        block: text that is shown as it is.
    """

    title: str
    name: Optional[str] = None
    kind: Optional[str] = None
    text: Optional[str] = None
    cards: Sequence[KeyFigure] = ()
    table: Optional[Table] = None
    caption: str = ""
    drawing: Optional[Drawing] = None
    items: Sequence[str] = ()
    items_kind: Optional[str] = None
    pairs: Mapping[str, str] = field(default_factory=dict)
    block: Optional[str] = None


def page(
    title: str, subtitle: str, sections: Sequence[PageSection], stages: Sequence[ShownStage]
) -> str:
    """Return a whole page that needs nothing but itself.

    Args:
        title: heading of the page.
        subtitle: the line below it.
        sections: the content.
        stages: those whose colours the figures hold.
    """
    pages = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    text: str = pages.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        styles=_styles(stages),
        version=__version__,
    )
    return text


def _shown(value: Any) -> Any:
    """Escape what a page cannot show; text that is markup already is ours."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _styles(stages: Sequence[ShownStage]) -> str:
    colours = variables(stages)
    light = "".join(f"{name}:{value};" for name, value, _ in colours)
    dark = "".join(f"{name}:{value};" for name, _, value in colours)
    text = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return f"{text}:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def figures(drawings: Sequence[Drawing], stages: Sequence[ShownStage]) -> list[PageSection]:
    """Return a section per figure."""
    return [
        PageSection(drawing.title, name=drawing.name, drawing=replace(drawing, svg=picture))
        for drawing in drawings
        for picture in [inline_svg(drawing.svg, drawing.name, stages)]
    ]


def warnings_section(lines: Sequence[str]) -> list[PageSection]:
    """Return what must be known before any figure is trusted, nothing without any."""
    return [PageSection("Warnings", kind="warnings", items=lines)] if lines else []


def dataset_text(dataset: DatasetDescription) -> str:
    """Return size and digest of a dataset in words."""
    triples = ", ".join(f"{count:,} {split}" for split, count in dataset.triples.items())
    return (
        f"{dataset.name}: {plural(dataset.entities, 'entity')}, "
        f"{plural(dataset.relations, 'relation')}, "
        f"{triples} triples; sha256 {dataset.fingerprint or 'not recorded'}"
    )


def provenance(tree: Mapping[str, Any], more: Mapping[str, str]) -> PageSection:
    """Return what the figures depend on, as names and values.

    Args:
        tree: what ``runtime.provenance`` returned.
        more: shown before it.
    """
    rows = {_NAMES.get(key, key): value for key, value in _flat(tree)}
    return PageSection("Provenance", pairs={**more, **rows})


def _flat(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        place = f"{above}{key}"
        if place == "git" and isinstance(value, Mapping):
            changed = ", with changes not committed" if value.get("dirty") else ""
            found.append((place, f"{value.get('revision', NONE)}{changed}"))
        elif isinstance(value, Mapping):
            found += _flat(value, f"{place}.")
        elif place == "hardware.memory_bytes" and isinstance(value, (int, float)):
            found.append((place, bytes_text(value)))
        elif isinstance(value, list):
            found.append((place, ", ".join(map(str, value)) or "none"))
        else:
            found.append((place, NONE if value is None else str(value)))
    return found
