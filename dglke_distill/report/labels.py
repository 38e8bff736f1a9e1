"""Labels beside points, placed so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from dglke_distill.report.theme import settled

Point = NDArray[np.float64]

_RADII = (9.0, 15.0, 24.0, 36.0, 50.0, 66.0, 84.0, 104.0)
_ON_LABEL, _ON_POINT, _ON_LINE, _OUTSIDE = 6, 3, 1, 8  # how bad each is
_DIRECTIONS = (
    (0.0, 1.0),
    (1.0, 0.0),
    (0.0, -1.0),
    (-1.0, 0.0),
    (0.8, 0.6),
    (0.8, -0.6),
    (-0.8, 0.6),
    (-0.8, -0.6),
)
_LEADER_FROM = 20.0
_MARKER = 6.0
_POINTS_PER_INCH = 72


@dataclass(frozen=True)
class Label:
    """Text for a point given in data coordinates."""

    x: float
    y: float
    text: str
    colour: str
    size: float = 9.0


def place_labels(
    figure: Figure,
    axes: Axes,
    labels: Sequence[Label],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> None:
    """Write labels beside their points, the first ones having the first choice of place.

    A label that must stand away from its point gets a thin line to it.

    Args:
        figure: its layout is settled here; limits of the axes must not change afterwards.
        axes: where the points are.
        labels: what to write.
        lines: pairs of points that are joined; labels keep clear of these lines too.
    """
    settled(figure)  # only now is it known where the axes lie
    scale = figure.dpi / _POINTS_PER_INCH
    to_pixels = axes.transData.transform
    half = _MARKER * scale
    taken = [(_around(to_pixels((label.x, label.y)), half, half), _ON_POINT) for label in labels]
    for start, end in lines:
        ends = to_pixels([start, end])
        steps = max(2, int(np.hypot(*(ends[1] - ends[0])) / half))
        between = np.linspace(ends[0], ends[1], steps)
        taken += [(_around(point, 2, 2), _ON_LINE) for point in between]
    frame = axes.get_window_extent()
    for label in labels:
        point = to_pixels((label.x, label.y))
        width, height = _extent(figure, axes, label)
        best, fewest = None, float("inf")
        for radius in _RADII:
            for across, up in _DIRECTIONS:
                centre = point + np.array(
                    [
                        across * (radius * scale) + np.sign(across) * width / 2,
                        up * (radius * scale) + np.sign(up) * height / 2,
                    ]
                )
                box = _around(centre, width / 2, height / 2)
                hits = sum(cost for other, cost in taken if _overlap(box, other))
                hits += _OUTSIDE * (not _within(box, frame))
                if hits < fewest:
                    best, fewest = (box, centre, radius), hits
            if not fewest:
                break
        assert best is not None
        box, centre, radius = best
        taken.append((box, _ON_LABEL))
        if radius > _LEADER_FROM:
            taken += [(_around(at, 1, 1), _ON_LINE) for at in np.linspace(point, centre, 20)]
        _write(axes, label, point, centre, radius, scale)


def _write(
    axes: Axes, label: Label, point: Point, centre: Point, radius: float, scale: float
) -> None:
    arrow: Optional[dict[str, Any]] = None
    if radius > _LEADER_FROM:
        arrow = {
            "arrowstyle": "-",
            "color": label.colour,
            "linewidth": 0.6,
            "alpha": 0.6,
            "shrinkB": 5,
        }
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=tuple((centre - point) / scale),
        textcoords="offset points",
        ha="center",
        va="center",
        multialignment="center",
        fontsize=label.size,
        color=label.colour,
        arrowprops=arrow,
    )


def _extent(figure: Figure, axes: Axes, label: Label) -> tuple[float, float]:
    text = axes.text(label.x, label.y, label.text, fontsize=label.size)
    box = text.get_window_extent()
    text.remove()
    return box.width + 2, box.height + 2


def _around(centre: Point, half_width: float, half_height: float) -> Bbox:
    x, y = centre
    return Bbox([[x - half_width, y - half_height], [x + half_width, y + half_height]])


def _overlap(one: Bbox, other: Bbox) -> bool:
    return bool(one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1)


def _within(box: Bbox, frame: Bbox) -> bool:
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1
    return bool(inside and frame.y0 <= box.y0 and box.y1 <= frame.y1)
