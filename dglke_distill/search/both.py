"""The searches that a chain may need."""

from __future__ import annotations

from dglke_distill.distill.tuner import Searches
from dglke_distill.search.control import equal_time
from dglke_distill.search.race import race

__all__ = ["SEARCHES"]

SEARCHES = Searches(equal_time, race)
"""A race for teachers and students, a search in equal time for controls."""
