"""Colours of figures in light and dark, and how a figure becomes a file."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from dglke_distill.report.run_results import ShownStage

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a figure is the same everywhere
    "font.size": 9.5,
    "text.parse_math": False,  # names come from users' data, and may hold a dollar
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "dglke-distill",
    "savefig.dpi": 160,
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Theme:
    """The colours of a figure; told apart also by those who do not see red and green.

    Attributes:
        name: ``light`` or ``dark``.
        ink: text.
        muted: axes and secondary text.
        grid: lines behind the data.
        surface: what lies behind the figure, which itself is transparent.
        anchor: published figures.
        chain: first, middle and last colour of teachers and students.
        controls: first and last colour of the models without a teacher.
        methods: colours of the methods of a comparison, over and over.
    """

    name: str
    ink: str
    muted: str
    grid: str
    surface: str
    anchor: str
    chain: tuple[str, ...]
    controls: tuple[str, ...]
    methods: tuple[str, ...]

    def stage_colours(self, stages: Sequence[ShownStage]) -> dict[str, str]:
        """Return a colour per stage name, the same in every figure of a run."""
        chain = [stage.name for stage in stages if stage.in_chain]
        controls = [stage.name for stage in stages if not stage.in_chain]
        return {
            **dict(zip(chain, _ramp(self.chain, len(chain)))),
            **dict(zip(controls, _ramp(self.controls, len(controls)))),
        }

    def rc(self) -> dict[str, Any]:
        """Return matplotlib's settings."""
        return {
            **_STYLE,
            "text.color": self.ink,
            "axes.labelcolor": self.ink,
            "axes.titlecolor": self.ink,
            "axes.edgecolor": self.muted,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "xtick.labelcolor": self.ink,
            "ytick.labelcolor": self.ink,
            "grid.color": self.grid,
        }


LIGHT = Theme(
    name="light",
    ink="#1c2430",
    muted="#5b6675",
    grid="#e3e7ec",
    surface="#ffffff",
    anchor="#858e9a",
    chain=("#243b7a", "#2f7fc1", "#3aa79b"),
    controls=("#c4500b", "#e0a021"),
    methods=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#6b4fa0"),
)
DARK = Theme(
    name="dark",
    ink="#e6eaf0",
    muted="#9aa5b4",
    grid="#2c3440",
    surface="#12161c",
    anchor="#7d8896",
    chain=("#93a8f5", "#4fb0ee", "#5fd9c2"),
    controls=("#f58a4b", "#f5cf6b"),
    methods=("#4ba6e8", "#ff8a3d", "#2fcf9f", "#e79cc6", "#dcb04a", "#9ad6fb", "#a992e0"),
)


def _ramp(colours: Sequence[str], count: int) -> list[str]:
    """Return ``count`` colours from the first to the last, evenly spaced."""
    found = []
    for index in range(count):
        place = index / max(1, count - 1) * (len(colours) - 1)
        low = min(int(place), len(colours) - 2)
        ends = zip(to_rgb(colours[low]), to_rgb(colours[low + 1]))
        red, green, blue = (a + (b - a) * (place - low) for a, b in ends)
        found.append(to_hex((red, green, blue)))
    return found


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """Draw in a theme's colours, whatever the user's own settings of matplotlib."""
    with matplotlib.style.context(["default", theme.rc()]), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; that is no news to the user.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def png(figure: Figure, theme: Theme) -> bytes:
    """Return a figure as PNG on the theme's own ground, so that it can be read anywhere."""
    out = io.BytesIO()
    with drawing(theme):
        figure.savefig(out, format="png", facecolor=theme.surface)
    return out.getvalue()


def svg(figure: Figure, theme: Theme) -> str:
    """Return a figure as SVG on a transparent ground; the same figure gives the same bytes."""
    out = io.BytesIO()
    with drawing(theme):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return out.getvalue().decode("utf-8")


def settled(figure: Figure) -> Figure:
    """Lay a figure out once and for all; else each time it is saved does it again."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def variables(stages: Sequence[ShownStage] = ()) -> list[tuple[str, str, str]]:
    """Return name, light and dark colour of every CSS variable that ``inline_svg`` puts in."""
    pairs = [(getattr(LIGHT, name), getattr(DARK, name)) for name in ("ink", "muted", "grid")]
    pairs += [(LIGHT.surface, DARK.surface), (LIGHT.anchor, DARK.anchor)]
    pairs += zip(LIGHT.methods, DARK.methods)
    pairs += zip(LIGHT.stage_colours(stages).values(), DARK.stage_colours(stages).values())
    unique = dict(reversed(pairs))  # of equal light colours the first one counts
    return [(f"--figure-{light[1:]}", light, dark) for light, dark in unique.items()]


def inline_svg(text: str, prefix: str, stages: Sequence[ShownStage] = ()) -> str:
    """Return a light SVG for use inside a page: the ``<svg>`` element alone, of any width.

    Args:
        text: what ``svg`` returned.
        prefix: put before every id, so that two figures of one page share none.
        stages: those whose colours it holds. Colours become CSS variables (``variables``), so
            that the page can change them with its own.
    """
    body = text[text.index("<svg") :].strip()
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", body)
    body = re.sub(
        r'^(<svg[^>]*?) width="([^"]*)"',
        r'\1 style="max-width: \2; min-width: min(38rem, \2)"',
        body,
    )
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    return _recoloured(body, {light: f"var({name})" for name, light, _ in variables(stages)})


def dark_svg(text: str, stages: Sequence[ShownStage] = ()) -> str:
    """Return a light SVG in the colours of the dark theme."""
    return _recoloured(text, {light: dark for _, light, dark in variables(stages)})


def _recoloured(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"#[0-9a-f]{6}\b", lambda match: names.get(match[0], match[0]), text)
