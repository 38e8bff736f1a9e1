"""Where the readers of bundles lie, which are packages of their own."""

from __future__ import annotations

from pathlib import Path

READERS = Path(__file__).resolve().parent.parent / "readers"
PYTHON_READER = READERS / "python" / "kg_bundle.py"
JAVASCRIPT_READER = READERS / "js" / "kg_bundle.js"
