"""How figures are written, in tables, plots and pages alike."""

from __future__ import annotations

from typing import Optional

from dglke_distill.base.shown import percent_text, visible

NONE = "–"
"""What stands where there is no figure."""

_UNITS = ("B", "KiB", "MiB", "GiB")


def quality(value: Optional[float]) -> str:
    """Return an MRR or a share of hits with four decimals."""
    return NONE if value is None else f"{value:.4f}"


def percent(value: Optional[float]) -> str:
    """Return a share as ``91.3%``."""
    return NONE if value is None else f"{100 * value:.1f}%"


def gain_text(value: Optional[float], low: Optional[float], high: Optional[float]) -> str:
    """Return a gain with its interval as ``+8.1 % [5.0, 11.2]``, or say that it has none."""
    if value is None:
        return NONE
    gain = f"{100 * value:+.1f} %".replace("-0.0", "0.0")
    if low is None or high is None:
        return f"{gain} (no interval)"
    return f"{gain} [{percent_text(low)}, {percent_text(high)}]"


def bytes_text(value: float) -> str:
    """Return bytes as ``128 B`` or ``2 KiB``."""
    unit = 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.4g} {_UNITS[unit]}"


def duration(seconds: Optional[float]) -> str:
    """Return seconds as ``8.4 s``, ``2 min 03 s`` or ``1 h 02 min``."""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def printable(text: str) -> str:
    """Return text with what a file or a page cannot show escaped; line ends and tabs stay."""
    return visible(text, keep="\n\t")
