"""Small knowledge-graph embeddings over DGL graphs: trained, distilled, measured, published."""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]

from dglke_distill.base import runtime as _runtime  # noqa: F401 (environment that torch and dgl read)
