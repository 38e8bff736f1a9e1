"""Python files as trees, each parsed once for all tests that look at the sources."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the tree of a file, which nobody may change."""
    return ast.parse(path.read_text(encoding="utf-8"))
