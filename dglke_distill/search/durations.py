"""How users say how long something may take."""

from __future__ import annotations

import re
from typing import Optional, Union

from dglke_distill.base.errors import UserError

SECONDS = 60.0
"""Of a search that nobody has asked for."""

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}
"""Seconds by the name of a unit."""


def seconds_of(given: Union[str, float], flag: str, *, none: bool = False) -> Optional[float]:
    """Return the seconds that a text such as ``90s``, ``20m`` or ``2h``, or a number stands for.

    A number without a unit is of seconds.

    Args:
        given: what was given.
        flag: names it in the message.
        none: whether ``none`` may be given too, for None.

    Raises:
        UserError: it is no time.
    """
    text = str(given).strip().lower()
    if none and text == "none":
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(s|m|min|h|)", text)
    if found is None or float(found[1]) <= 0:
        raise UserError(
            f"{flag} {given!r:.100}: write seconds, or a number with s, m or h behind it, e.g. 90s "
            f"or 5m{', or none' if none else ''}"
        )
    return float(found[1]) * UNITS[found[2]]
