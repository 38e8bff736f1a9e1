"""The reliability plot: how often what is said to be probable is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dglke_distill.base.files import file_aside
from dglke_distill.report.theme import LIGHT, Theme, drawing, png, svg

__all__ = ["draw_reliability", "write_plot"]


def draw_reliability(
    held_out: Sequence[tuple[str, str, Mapping[str, Any]]], theme: Theme
) -> Figure:
    """Draw the share that is true against the probability, before and after calibration.

    Args:
        held_out: name, colour and held-out figures of each model, as ``Calibration.about`` has
            them.
        theme: the colours of everything else.
    """
    with drawing(theme):
        figure = Figure(figsize=(5.2, 4.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=":")
        for name, colour, held in held_out:
            for when, style, mark in (("before", "--", "o"), ("after", "-", "s")):
                points = held[when]["reliability"]
                error = held[when]["expected_calibration_error"]
                axes.plot(
                    [one["predicted"] for one in points],
                    [one["observed"] for one in points],
                    linestyle=style,
                    marker=mark,
                    markersize=5,
                    color=colour,
                    alpha=0.5 if when == "before" else 1.0,
                    label=f"{name}{when}, ECE {error:.4f}",
                )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("probability")
        axes.set_ylabel("share that is true, held out")
        figure.legend(loc="outside upper left", ncols=1 if len(held_out) > 1 else 2)
    return figure


def write_plot(about: Mapping[str, Any], path: Path) -> None:
    """Write the plot of one model: SVG, PNG or PDF by the ending.

    Args:
        about: of its ``Calibration``.
        path: the file, which appears whole or not at all.

    Raises:
        NotWritten: it cannot be written.
    """
    figure = draw_reliability([("", LIGHT.chain[0], about["held_out"])], LIGHT)
    with file_aside(path) as aside:
        kind = path.suffix.lower()
        if kind == ".svg":
            aside.write_bytes(svg(figure, LIGHT).encode("utf-8"))
        elif kind == ".png":
            aside.write_bytes(png(figure, LIGHT))
        else:
            figure.savefig(aside, format="pdf", metadata={"CreationDate": None})
