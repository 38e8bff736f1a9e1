"""A web page to look at models with: questions, two models side by side, a map of the entities."""

from __future__ import annotations

from dglke_distill.serve.gallery import Gallery, Shown
from dglke_distill.serve.server import PageServer

__all__ = ["Gallery", "PageServer", "Shown"]
