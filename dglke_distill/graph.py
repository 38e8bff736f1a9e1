"""The train graph, under the name that scripts know it by; it lives in ``data.graph``."""

from __future__ import annotations

from dglke_distill.data.graph import build_graph

__all__ = ["build_graph"]
