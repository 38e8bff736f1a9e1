"""Headings: first lines that name the columns, and which words do."""

from __future__ import annotations

import csv
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

_HEADS = frozenset(
    """
    head head_id head_entity head_name h subject subject_id subj sub s source source_id source_node
    src from from_id from_node start start_id start_node entity1 entity_1 entity1_id ent1 e1 node1
    node_1 x_id x_name x lhs left arg1 arg_1 u uri1 head_uri subject_uri parent
    """.split()
)
_RELATIONS = frozenset(
    """
    relation relations relation_id relation_name relation_type rel rel_id rel_type r predicate
    predicate_id pred p property property_id edge edge_type edge_label metaedge type link link_type
    label relationship relationship_type relation_uri predicate_uri verb interaction
    interaction_type display_relation
    """.split()
)
_TAILS = frozenset(
    """
    tail tail_id tail_entity tail_name t object object_id obj o target target_id target_node tgt
    to to_id to_node end end_id end_node dst dest destination entity2 entity_2 entity2_id ent2 e2
    node2 node_2 y_id y_name y rhs right arg2 arg_2 v uri2 tail_uri object_uri child
    """.split()
)
_LETTERS = ({"h", "r", "t"}, {"s", "p", "o"})
"""Single letters are headings only together: ``x r y`` may be a toy's first fact."""
_PREFERRED = ("name", "id")


def split_line(line: str, separator: str) -> list[str]:
    """Return the cells of one line, blanks around them taken away."""
    if separator == ",":
        try:
            cells = next(csv.reader([line], skipinitialspace=True), [])
        except csv.Error:
            cells = [line]
    else:
        cells = line.split(separator)
    return [cell.strip() for cell in cells]


def heading_order(cells: Sequence[str]) -> Optional[str]:
    """Return the columns' order that a heading of three known words states, as in ``hrt``.

    Returns:
        None if the words are no heading that is known.
    """
    words = [_word(cell) for cell in cells]
    if len(words) != 3:
        return None
    if any(len(word) == 1 for word in words) and set(words) not in _LETTERS:
        return None
    order = "".join(_role(word) for word in words)
    return order if sorted(order) == sorted("hrt") else None


def named_columns(cells: Sequence[str]) -> Optional[tuple[str, str, str]]:
    """Return which columns of a wider table look like head, relation and tail; None if unclear."""
    found: dict[str, list[str]] = {"h": [], "r": [], "t": []}
    for cell in cells:
        role = _role(_word(cell))
        if role:
            found[role].append(cell)
    # Of x_id and x_name either would do; both ends must be of one sort.
    heads = sorted(found["h"], key=_rank)
    tails = sorted(found["t"], key=_rank)
    if not (heads and tails and found["r"]):
        return None
    return heads[0], found["r"][0], tails[0]


def _rank(cell: str) -> int:
    ending = _word(cell).rpartition("_")[2]
    return _PREFERRED.index(ending) if ending in _PREFERRED else len(_PREFERRED)


def _word(cell: str) -> str:
    word = cell.strip().strip("\"'#:?<>[]()*").strip().casefold()
    return word.replace(" ", "_").replace("-", "_").strip("_")


def _role(word: str) -> str:
    """Return the letter of the column that a word stands over, or nothing."""
    for letter, words in (("h", _HEADS), ("r", _RELATIONS), ("t", _TAILS)):
        if word in words:
            return letter
    return ""


def heading_left_out(path: Path, cells: Sequence[str]) -> str:
    """Return the warning that a first line was taken for a heading."""
    return (
        f"{path}, line 1: {', '.join(cells)} was taken for a heading and left out; if it is a "
        f"fact, say --set data.header=false"
    )


@dataclass
class FirstRow:
    """The first line of a file of names, of which it is to be decided whether it is a heading.

    Attributes:
        path: the file.
        cells: head, relation and tail.
        order: the columns' order in the file.
        rows: how many lines follow.
    """

    path: Path
    cells: list[str]
    order: str
    rows: int

    @property
    def written(self) -> list[str]:
        """The cells in the file's order."""
        by_role = dict(zip("hrt", self.cells))
        return [by_role[role] for role in self.order]


def find_headings(
    first_rows: Mapping[str, FirstRow],
    entities: Container[str],
    relations: Container[str],
    header: Optional[bool],
    warnings: list[str],
) -> set[str]:
    """Return the splits whose first line is a heading, to be left out.

    A heading is one whose three words occur nowhere else: in no line of any file, but for first
    lines that are the same. If the words are known as headings, the line is left out; else it
    may as well be a fact, and stays unless ``header`` says otherwise.

    Args:
        first_rows: the first line of each split's file, train's first.
        entities: all names of entities in the other lines.
        relations: all names of relations in the other lines.
        header: whether the files begin with headings; None: found out, False: none does.
        warnings: receives what was left out, and what may be a heading.
    """
    if header is False:
        return set()
    found: set[str] = set()
    some = any(row.rows for row in first_rows.values())
    main = next(iter(first_rows.values()), None)
    for split, row in first_rows.items():
        head, relation, tail = row.cells
        others = {
            cell
            for other in first_rows.values()
            if other.cells != row.cells
            for cell in other.cells
        }
        unique = (
            some
            and head not in entities
            and tail not in entities
            and relation not in relations
            and not others.intersection(row.cells)
        )
        known = heading_order(row.written) is not None
        text = ", ".join(row.written)
        if header:
            asked = main is not None and (row is main or row.cells == main.cells)
            if asked or unique or known:
                found.add(split)
                warnings.append(heading_left_out(row.path, row.written))
            else:
                warnings.append(
                    f"{row.path}, line 1: {text} was kept as a fact, since its names occur in "
                    f"other facts; remove the line if it is a heading"
                )
        elif unique and known:
            found.add(split)
            warnings.append(heading_left_out(row.path, row.written))
        elif unique or known:
            why = "its words occur nowhere else" if unique else "its words are those of headings"
            warnings.append(
                f"{row.path}, line 1: {text} was read as a fact, but {why}; if it is a heading, "
                f"leave it out by --set data.header=true"
            )
    return found
