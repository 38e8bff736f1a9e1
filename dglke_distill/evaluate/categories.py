"""Which relations are one-to-one and which are not: the categories that ranking is reported by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dglke_distill.data.graph import unique_queries
from dglke_distill.data.triples import SIDES, Triples

CATEGORIES = ("1-1", "1-N", "N-1", "N-N")
"""Names of the categories, heads before tails: in a 1-N relation one head has many tails."""

UNSEEN = -1
"""The code of a relation without train triples."""


def relation_categories(
    train: Triples, num_relations: int, threshold: float = 1.5
) -> NDArray[np.int8]:
    """Sort relations by how many tails a head has, and how many heads a tail has.

    A side counts as "many" when the mean number of its distinct entities per query of the train
    split reaches the threshold (Bordes, Usunier, Garcia-Duran, Weston, Yakhnenko 2013, "Translating
    embeddings for modeling multi-relational data", section 4.2).

    Args:
        train: the train split; repeated triples count once.
        num_relations: number of relations R.
        threshold: mean from which on a side is "many".

    Returns:
        int8 array of shape (R,), positions in ``CATEGORIES``, or ``UNSEEN``.
    """
    many = {}
    for side in SIDES:
        _, relation, offsets, _ = unique_queries(train, side)
        queries = np.bincount(relation, minlength=num_relations)
        facts = np.bincount(np.repeat(relation, np.diff(offsets)), minlength=num_relations)
        many[side] = facts >= threshold * queries
    seen = np.bincount(train.relation, minlength=num_relations) > 0
    codes = many["tail"].astype(np.int8) + np.int8(2) * many["head"].astype(np.int8)
    return np.where(seen, codes, UNSEEN).astype(np.int8)


def category_name(code: int) -> str:
    """Return the name of a category code; relations without train triples are ``"unseen"``."""
    return "unseen" if code == UNSEEN else CATEGORIES[code]
