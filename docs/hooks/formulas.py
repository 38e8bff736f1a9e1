"""Formulas: LaTeX in ``math`` blocks, as MathML in the page."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def as_mathml(markdown: str) -> str:
    """Return a page with its formulas as MathML."""
    from latex2mathml.converter import convert

    def replaced(found: re.Match[str]) -> str:
        return f'\n<div class="formula">{convert(found[1].strip(), display="block")}</div>\n'

    return _BLOCK.sub(replaced, markdown)
