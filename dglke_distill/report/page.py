"""The page that reports share: its head, its styles, and the sections that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from dglke_distill import __version__
from dglke_distill.report.markup import Markup, tag, together
from dglke_distill.report.numbers import NONE, bytes_text
from dglke_distill.report.run_results import Dataset, Stage
from dglke_distill.report.theme import inline_svg, variables

__all__ = [
    "Drawing",
    "KeyFigure",
    "dataset_text",
    "figures",
    "key_figures",
    "page",
    "provenance",
    "warnings_section",
]

_STYLES = Path(__file__).with_name("page.css")
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
        title: heading. description: what it shows, in words, for who cannot see it.
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


def page(title: str, subtitle: str, sections: Sequence[Markup], stages: Sequence[Stage]) -> str:
    """Return a whole page that needs nothing but itself.

    Args:
        title: heading of the page.
        subtitle: the line below it.
        sections: the content.
        stages: those whose colours the figures hold.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = (
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("title", title),
        tag("style", Markup(_styles(stages))),
    )
    body = tag(
        "main",
        tag("header", tag("h1", title), tag("p", subtitle, class_="subtitle")),
        *sections,
        tag("footer", tag("p", f"Written by dglke_distill {__version__}.")),
    )
    return f"<!DOCTYPE html>\n{tag('html', tag('head', *head), tag('body', body), lang='en')}\n"


def _styles(stages: Sequence[Stage]) -> str:
    colours = variables(stages)
    light = "".join(f"{name}:{value};" for name, value, _ in colours)
    dark = "".join(f"{name}:{value};" for name, _, value in colours)
    text = _STYLES.read_text(encoding="utf-8")
    return f"{text}:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def key_figures(figures: Sequence[KeyFigure]) -> Markup:
    """Return the figures that a reader looks for first."""
    cards = [
        tag(
            "div",
            tag("dt", figure.name),
            tag("dd", figure.value, class_="value"),
            tag("dd", figure.note, class_="note") if figure.note else None,
        )
        for figure in figures
    ]
    return tag("section", tag("h2", "Summary"), tag("dl", *cards, class_="cards"))


def figures(drawings: Sequence[Drawing], stages: Sequence[Stage]) -> list[Markup]:
    """Return a section per figure."""
    found = []
    for drawing in drawings:
        picture = Markup(inline_svg(drawing.svg, drawing.name, stages))
        frame = tag(
            "div",
            tag("div", picture, role="img", aria_label=drawing.description),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label=drawing.title,
        )
        found.append(
            tag(
                "section",
                tag("h2", drawing.title),
                tag("figure", frame, tag("figcaption", drawing.note)),
                id=drawing.name,
            )
        )
    return found


def warnings_section(lines: Sequence[str]) -> Optional[Markup]:
    """Return what must be known before any figure is trusted, None without any."""
    if not lines:
        return None
    items = [tag("li", line) for line in lines]
    return tag("section", tag("h2", "Warnings"), tag("ul", *items), class_="warnings")


def dataset_text(dataset: Dataset) -> str:
    """Return size and digest of a dataset in words."""
    triples = ", ".join(f"{count:,} {split}" for split, count in dataset.triples.items())
    return (
        f"{dataset.name}: {dataset.entities:,} entities, {dataset.relations:,} relations, "
        f"{triples} triples; sha256 {dataset.fingerprint}"
    )


def provenance(tree: Mapping[str, Any], more: Mapping[str, str]) -> Markup:
    """Return what the figures depend on, as a list of names and values.

    Args:
        tree: what ``runtime.provenance`` returned.
        more: shown before it.
    """
    rows = {**more, **{_NAMES.get(key, key): value for key, value in _flat(tree)}}
    pairs = [piece for name, value in rows.items() for piece in (tag("dt", name), tag("dd", value))]
    return tag("section", tag("h2", "Provenance"), tag("dl", *pairs, class_="pairs"))


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


def preformatted(title: str, text: str, note: Optional[str] = None) -> Markup:
    """Return a section with text that is shown as it is."""
    block = tag("pre", tag("code", text), tabindex="0", role="region", aria_label=title)
    return together([tag("section", tag("h2", title), tag("p", note) if note else None, block)])
