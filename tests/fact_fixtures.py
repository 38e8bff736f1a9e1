"""Facts by ids, as tests of the data draw them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from dglke_distill.data.triples import Triples

Fact = tuple[int, int, int]
"""Head, relation, tail."""


def fact_lists(entities: int, relations: int, most: int) -> st.SearchStrategy[list[Fact]]:
    """Return the strategy of lists of facts, with repetitions and loops.

    Args:
        entities: how many there are.
        relations: how many there are.
        most: the longest list.
    """
    entity = st.integers(0, entities - 1)
    return st.lists(st.tuples(entity, st.integers(0, relations - 1), entity), max_size=most)


def triples(rows: Sequence[Fact]) -> Triples:
    """Return facts as triples."""
    return Triples.from_array(np.array(rows, np.int64).reshape(-1, 3))
