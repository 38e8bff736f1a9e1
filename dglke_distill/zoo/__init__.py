"""Published models: ``zoo.load("transe-fb15k237-dim32")``, and how to publish one."""

from __future__ import annotations

from dglke_distill.zoo.fetch import load, load_checkpoint
from dglke_distill.zoo.publish import publish
from dglke_distill.zoo.registry import info
from dglke_distill.zoo.registry import list_models as list
from dglke_distill.zoo.schema import Entry
from dglke_distill.zoo.verify import Verification, verify

__all__ = [
    "Entry",
    "Verification",
    "info",
    "list",
    "load",
    "load_checkpoint",
    "publish",
    "verify",
]
