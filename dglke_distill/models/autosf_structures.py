"""Which blocks meet in an AutoSF score: the published structures, and the check of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Union

import numpy as np
import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural

BLOCKS = 4
"""Blocks that heads, relations and tails are cut into."""

STRUCTURES: dict[str, str] = {
    "wn18": "3 2 1 0, 3 3 2 -1, 0 2 3 -1, 1 0 1 1, 2 1 0 1, 2 2 0 -1, 1 0 2 -1",
    "fb15k": "3 2 1 0, 1 0 1 1, 2 1 0 1",
    "wn18rr": "1 0 2 3, 3 1 1 1, 3 0 0 1, 0 3 2 -1, 1 2 3 -1, 1 3 1 -1, 0 1 3 -1",
    "fb15k237": "2 1 3 0",
    "yago310": "0 1 2 3, 1 3 1 -1, 2 1 3 -1",
    "ogbl-biokg": "0 1 2 3, 0 0 1 1",
    "ogbl-wikikg2": "0 1 3 2, 1 3 1 -1, 0 2 2 1, 2 1 3 1",
}
"""What the searches of Zhang et al. 2020 and of their leaderboard entries found, by dataset.

The first four numbers, a b c d, stand for h_0 r_0 t_a + h_1 r_1 t_b + h_2 r_2 t_c + h_3 r_3 t_d;
every four after them add a term: block of the relation, of the head, of the tail, and its sign.
"""

_ANY_RELATION = (0.637, 1.1127, 1.5369, 1.9153)


class Term(NamedTuple):
    """sign * sum(head block * relation block * tail block)."""

    relation: int
    head: int
    tail: int
    sign: int


def read_structure(structure: Union[str, Sequence[int]]) -> list[Term]:
    """Return the terms of a published structure by its name, or of one's own by its numbers.

    Raises:
        UserError: unknown name, or numbers that are no structure, or one whose bilinear form is
            singular for every relation, so that some directions of entities never count.
    """
    where = "model.options of AutoSF: structure"
    if isinstance(structure, str):
        if structure.lower() not in STRUCTURES:
            known = ", ".join(STRUCTURES)
            raise UserError(f"{where} {structure!r} is unknown; choose {known}, or give numbers")
        text = STRUCTURES[structure.lower()]
        structure = [int(number) for number in text.replace(",", " ").split()]
    numbers = list(structure)
    if len(numbers) < BLOCKS or len(numbers) % 4:
        raise UserError(
            f"{where} has {plural(len(numbers), 'number')}; give four tail blocks, then four "
            f"numbers per further term: relation, head and tail block, and sign"
        )
    terms = [Term(block, block, tail, 1) for block, tail in enumerate(numbers[:BLOCKS])]
    terms += [Term(*numbers[at : at + 4]) for at in range(BLOCKS, len(numbers), 4)]
    form = np.zeros((BLOCKS, BLOCKS))
    for term in terms:
        if not all(0 <= block < BLOCKS for block in term[:3]) or term.sign not in (-1, 1):
            raise UserError(
                f"{where}: {list(term)} is no term; relation, head and tail blocks are 0 to "
                f"{BLOCKS - 1}, the sign is 1 or -1"
            )
        if form[term.head, term.tail]:
            raise UserError(
                f"{where}: head block {term.head} meets tail block {term.tail} twice; once is all "
                "that the search allows"
            )
        # Values without pattern: the rank is that of almost every relation.
        form[term.head, term.tail] = term.sign * _ANY_RELATION[term.relation]
    if np.linalg.matrix_rank(form) < BLOCKS:
        raise UserError(
            f"{where} is degenerate: its matrix of blocks has rank {np.linalg.matrix_rank(form)} "
            f"of {BLOCKS} for any relation; no row or column may be empty or follow from others"
        )
    return terms


def joined(parts: Iterable[tuple[int, Tensor]]) -> Tensor:
    """Sum (block, vectors (b, d)) by block and lay the blocks side by side: (b, BLOCKS * d)."""
    blocks: list[list[Tensor]] = [[] for _ in range(BLOCKS)]
    for block, vectors in parts:
        blocks[block].append(vectors)
    sums = [found[0] if len(found) == 1 else sum(found[1:], found[0]) for found in blocks]
    return torch.cat(sums, dim=-1)
