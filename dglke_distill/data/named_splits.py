"""Files of names, read split by split into triples with ids of their own."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.dictionaries import read_dictionary
from dglke_distill.data.headings import FirstRow, find_headings
from dglke_distill.data.layout import NEGATIVE_SPLITS, Format, is_ragged
from dglke_distill.data.name_order import sorted_names
from dglke_distill.data.name_tables import NameTable
from dglke_distill.data.triple_files import NameIndex, read_name_triples, unknown_name
from dglke_distill.data.triples import Triples, Vocabulary


def read_named(
    files: Mapping[str, Path],
    layout: Format,
    dictionary_files: tuple[Optional[Path], Optional[Path]],
    header: Optional[bool],
    warnings: list[str],
    opened: Callable[[str], Optional[NameTable]],
    weights: list[NDArray[np.float32]],
) -> tuple[Vocabulary, Vocabulary, dict[str, Triples]]:
    """Read files of names by split.

    Args:
        files: by split, train first.
        layout: how the files are read.
        dictionary_files: of entities and relations; each None where there is none.
        header: whether the files begin with a heading; None: found out.
        warnings: receives what is legal but noteworthy.
        opened: returns the reader of a split's file, None for a plain table.
        weights: receives the weights of train, block by block.

    Returns:
        Names of entities and of relations, and triples by split.

    Raises:
        UserError: a file is malformed, or a name unknown.
    """
    entities, relations = NameIndex("entity"), NameIndex("relation")
    entity_file, relation_file = dictionary_files
    given = entity_file is not None and relation_file is not None
    if entity_file is not None and relation_file is not None:
        names = read_dictionary(entity_file, warnings=warnings)
        entities = NameIndex("entity", names, entity_file)
        names = read_dictionary(relation_file, warnings=warnings)
        relations = NameIndex("relation", names, relation_file)
    splits: dict[str, Triples] = {}
    first_rows: dict[str, FirstRow] = {}
    for split, path in files.items():
        if split in NEGATIVE_SPLITS and not given:
            # A false triple names nothing that no fact names.
            _settle(splits, first_rows, (entities, relations), header, warnings, weights)
            entities.freeze(files["train"].parent)
            relations.freeze(files["train"].parent)
        cells: list[str] = []
        table = opened(split)
        ragged = table is None and header is True and is_ragged(path)
        settled = ragged or (table is not None and not table.may_have_heading)
        if ragged:
            warnings.append(f"{path}, line 1: was left out as a heading")
        splits[split] = read_name_triples(
            path,
            entities,
            relations,
            order=layout.order,
            header=ragged,
            first_row=None if settled else cells,
            warnings=warnings,
            table=table,
            weights=weights if split == "train" else None,
        )
        if cells:
            first_rows[split] = FirstRow(path, cells, layout.order, len(splits[split]) - 1)
    _settle(splits, first_rows, (entities, relations), header, warnings, weights)
    shared = sum(name in entities.ids for name in relations.ids)
    if 2 * shared > len(relations):
        warnings.append(
            f"{shared} of {len(relations)} relation names are also names of entities; if the "
            f"columns are not in the order {layout.order}, give it by --set data.format=names_... "
            f"(such as names_htr)"
        )
    warnings += [*_looking_alike(entities), *_looking_alike(relations)]
    if given:
        kept = Vocabulary(entities.names), Vocabulary(relations.names, kind="relation")
        return kept[0], kept[1], splits
    sorted_entities, new_entity = sorted_names(entities.names, "entity")
    sorted_relations, new_relation = sorted_names(relations.names, "relation")
    splits = {
        split: Triples(new_entity[t.head], new_relation[t.relation], new_entity[t.tail])
        for split, t in splits.items()
    }
    return sorted_entities, sorted_relations, splits


def _looking_alike(index: NameIndex) -> list[str]:
    """Return a warning of names that differ in nothing but the Unicode form of their letters."""
    first: dict[str, str] = {}
    pairs = []
    for name in index.ids:
        if not name.isascii():
            other = first.setdefault(unicodedata.normalize("NFC", name), name)
            if other != name:
                pairs.append((other, name))
    if not pairs:
        return []
    one, other = (ascii(name)[:100] for name in pairs[0])
    return [
        f"{plural(len(pairs), f'{index.kind} name')} in another Unicode form than one that looks "
        f"the same, e.g. {other} beside {one}: they count as different; write all names in one "
        "form, such as NFC"
    ]


def _settle(
    splits: dict[str, Triples],
    first_rows: dict[str, FirstRow],
    indices: tuple[NameIndex, NameIndex],
    header: Optional[bool],
    warnings: list[str],
    weights: list[NDArray[np.float32]],
) -> None:
    """Leave first lines out that are headings, and give the others their ids."""
    entities, relations = indices
    headings = find_headings(first_rows, entities.ids, relations.ids, header, warnings)
    for split, row in first_rows.items():
        triples = splits[split]
        if split in headings:
            splits[split] = triples[np.s_[1:]]
            if split == "train" and weights:
                weights[0] = weights[0][1:]
            continue
        if split == "train" and weights and np.isnan(weights[0][0]):
            raise UserError(
                f"{row.path}, line 1: its weight is no number; if the line is a heading, say --set "
                "data.header=true"
            )
        head, relation, tail = row.cells
        for column, name, index in (
            (triples.head, head, entities),
            (triples.relation, relation, relations),
            (triples.tail, tail, entities),
        ):
            column[0] = index.look_up([name])[0]
            if column[0] < 0:
                raise unknown_name(f"{row.path}, line 1", name, index, first=True)
    first_rows.clear()
