"""A web page to look at models with: questions, two models side by side, a map of the entities."""

from __future__ import annotations

from dglke_distill.serve.gallery import Gallery, Shown
from dglke_distill.serve.server import PageServer
from dglke_distill.serve.watch import Limits

__all__ = ["Gallery", "Limits", "PageServer", "Shown"]
