"""Notebooks as pages: their text, their code, and what it printed when it last ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else "".join(text)


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"


def _said(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    text = output.get("text") or data.get("text/plain") or output.get("traceback") or ""
    return _joined(text)


def markdown(path: Path) -> str:
    """Return a notebook as Markdown; the outputs are those that are saved in it.

    Args:
        path: the notebook, of the format 4.
    """
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source + "\n")
            continue
        parts.append(_fence("python", source))
        said = "".join(_said(output) for output in cell["outputs"])
        if said.strip():
            parts.append(_fence("text", said))
    parts.append(f"This page is the notebook `docs/tutorials/{path.name}`; the tests run it.\n")
    return "\n".join(parts)
