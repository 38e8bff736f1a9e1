"""A user's own triples: which format a folder or file is in, and reading it into a ``Dataset``.

Formats (letters give the columns' order, any permutation of ``hrt``):

- ``names_hrt`` (also ``raw_udd_hrt``, DGL-KE's word): ``train``, ``valid`` and ``test`` files of
  names, ending in ``.txt``, ``.tsv``, ``.csv``, ``.del`` or nothing, each plain or compressed
  (``.gz``, ``.bz2``, ``.xz``); see ``layout.split_files`` for other names. Commas separate columns
  in ``.csv`` files, tabs elsewhere. With ``entities.dict`` and ``relations.dict`` beside them, as
  ``dgl.data`` has them, those give the ids.
- ``udd_hrt``: the same files hold ids; ``entities.dict`` and ``relations.dict`` name them, or
  LibKGE's ``entity_ids.del`` and ``relation_ids.del``.
- ``openke``: ``entity2id.txt``, ``relation2id.txt``, ``train2id.txt``, ``valid2id.txt`` and
  ``test2id.txt``, each with a count in its first line; columns are head, tail, relation.
- ``auto``: whichever of these the files show.

Headings: a first line whose words are known as headings and occur nowhere else is left out, with a
warning; one whose words only occur nowhere else is a fact, with a warning, unless ``header`` says
that the files have headings.

Ids: a dictionary file's own ids are kept. Without one, ids follow the names' order by Unicode code
points over all splits, so that they do not depend on the order of lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.data.checks import find_warnings
from dglke_distill.data.dictionaries import read_dictionary
from dglke_distill.data.headings import FirstRow, find_headings
from dglke_distill.data.id_files import read_id_triples
from dglke_distill.data.layout import (
    FORMAT_NAMES,
    NEGATIVE_SPLITS,
    SPLITS,
    Format,
    check_order,
    detect_file,
    detect_folder,
    dictionaries,
    is_libkge,
    is_ragged,
    missing_split,
    openke_file,
    parse_format,
    sibling_splits,
    split_files,
)
from dglke_distill.data.name_order import sorted_names
from dglke_distill.data.split import split_triples
from dglke_distill.data.split_names import parse_split_name
from dglke_distill.data.text import plural, without_packing
from dglke_distill.data.triple_files import NameIndex, read_name_triples, unknown_name
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

__all__ = ["FORMAT_NAMES", "Format", "parse_format", "read_file", "read_folder"]


def read_folder(
    folder: Path,
    *,
    format: str = "auto",
    header: Optional[bool] = None,
    name: Optional[str] = None,
) -> Dataset:
    """Read a folder with train, valid and test files.

    Args:
        folder: where the files are.
        format: one of ``FORMAT_NAMES``, letters in any order.
        header: whether each file begins with a heading; None: found out.
        name: the dataset's name; the folder's own by default.

    Raises:
        UserError: a file is missing or malformed; file, line and mend are named.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: check the name")
    layout = parse_format(format) or detect_folder(folder, header)
    warnings: list[str] = []
    files = split_files(folder, layout, warnings)
    for split in SPLITS:
        if split not in files:
            raise missing_split(folder, split, layout)
    entities, relations, splits = _read_files(folder, files, layout, header, warnings)
    return _finish(name or resolved(folder).name, splits, entities, relations, warnings)


def read_file(
    path: Path,
    *,
    format: str = "auto",
    header: Optional[bool] = None,
    name: Optional[str] = None,
    split_seed: int = 0,
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Dataset:
    """Read one file of facts and split it; see ``split_triples`` for what is guaranteed.

    Args:
        path: the file; its dictionaries, if any, lie beside it.
        format: one of ``FORMAT_NAMES``, letters in any order.
        header: whether the file begins with a heading; None: found out.
        name: the dataset's name; the file's own by default.
        split_seed: seed of the split.
        split_fractions: shares of train, valid and test.

    Raises:
        UserError: as for ``read_folder``, or no fact can be held out.
    """
    layout = parse_format(format) or detect_file(path, header)
    warnings: list[str] = []
    entities, relations, splits = _read_files(
        path.parent, {"train": path}, layout, header, warnings
    )
    facts = splits["train"]
    if not len(facts):
        raise UserError(f"{path} is empty: give it one fact per line")
    siblings = sibling_splits(path)
    if siblings:
        other = parse_split_name(siblings[-1])
        warnings.append(
            f"{path.name} was split although a {other.split if other else 'split'} file lies "
            f"beside it ({', '.join(file.name for file in siblings)}); give the folder to use the "
            f"files as they are"
        )
    try:
        split = split_triples(
            facts,
            len(entities),
            len(relations),
            fractions=split_fractions,
            seed=split_seed,
            entities=entities,
            relations=relations,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if split.duplicates:
        warnings.append(f"{path.name}: {plural(split.duplicates, 'duplicate triple')} removed")
    held_out = len(split.valid) + len(split.test)
    stayed = plural(split.kept_back, "chosen triple")
    warnings.append(
        f"{path.name}: split with seed {split_seed} into {len(split.train)} train, "
        f"{len(split.valid)} valid and {len(split.test)} test triples; {stayed} could not be held "
        f"out without leaving an entity or relation out of train"
        + (f", so {held_out} of {split.wanted} were" if held_out < split.wanted else "")
    )
    splits = {"train": split.train, "valid": split.valid, "test": split.test}
    return _finish(
        name or Path(without_packing(path.name)).stem, splits, entities, relations, warnings
    )


def _read_files(
    folder: Path,
    files: Mapping[str, Path],
    layout: Format,
    header: Optional[bool],
    warnings: list[str],
) -> tuple[Vocabulary, Vocabulary, dict[str, Triples]]:
    """Read files of triples by split name, with the dictionaries that lie in ``folder``."""
    entity_file, relation_file = dictionaries(folder, files["train"])
    openke = layout.family == "openke"
    if openke:
        entity_file, relation_file = openke_file(folder, "entity"), openke_file(folder, "relation")
        if header:
            raise UserError(
                f"{folder}: OpenKE's files have a count in their first line, and no heading; leave "
                f"data.header away"
            )
    elif header is not False:
        check_order(files["train"], layout, warnings)
    if layout.family == "names":
        return _read_named(files, layout, (entity_file, relation_file), header, warnings)
    if entity_file is None or relation_file is None:
        absent = (
            ("entity2id.txt", "relation2id.txt") if openke else ("entities.dict", "relations.dict")
        )
        raise UserError(
            f"{folder} has no {absent[entity_file is not None]}: it must name the ids in the other "
            f"files; add it, or choose a format of names (--set data.format=names_hrt)"
        )
    names = [
        read_dictionary(
            file, openke=openke, id_first=True if is_libkge(file) else None, warnings=warnings
        )
        for file in (entity_file, relation_file)
    ]
    entities, relations = Vocabulary(names[0]), Vocabulary(names[1], kind="relation")
    splits = {
        split: read_id_triples(
            path,
            len(entities),
            len(relations),
            order=layout.order,
            count_header=openke,
            header=header,
            warnings=warnings,
        )
        for split, path in files.items()
    }
    return entities, relations, splits


def _read_named(
    files: Mapping[str, Path],
    layout: Format,
    dictionary_files: tuple[Optional[Path], Optional[Path]],
    header: Optional[bool],
    warnings: list[str],
) -> tuple[Vocabulary, Vocabulary, dict[str, Triples]]:
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
            _settle(splits, first_rows, (entities, relations), header, warnings)
            entities.freeze(files["train"].parent)
            relations.freeze(files["train"].parent)
        cells: list[str] = []
        ragged = header is True and is_ragged(path)
        if ragged:
            warnings.append(f"{path}, line 1: was left out as a heading")
        splits[split] = read_name_triples(
            path,
            entities,
            relations,
            order=layout.order,
            header=ragged,
            first_row=None if ragged else cells,
            warnings=warnings,
        )
        if cells:
            first_rows[split] = FirstRow(path, cells, layout.order, len(splits[split]) - 1)
    _settle(splits, first_rows, (entities, relations), header, warnings)
    shared = sum(name in entities.ids for name in relations.ids)
    if 2 * shared > len(relations):
        warnings.append(
            f"{shared} of {len(relations)} relation names are also names of entities; if the "
            f"columns are not in the order {layout.order}, give it by --set data.format=names_... "
            f"(such as names_htr)"
        )
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


def _settle(
    splits: dict[str, Triples],
    first_rows: dict[str, FirstRow],
    indices: tuple[NameIndex, NameIndex],
    header: Optional[bool],
    warnings: list[str],
) -> None:
    """Leave first lines out that are headings, and give the others their ids."""
    entities, relations = indices
    headings = find_headings(first_rows, entities.ids, relations.ids, header, warnings)
    for split, row in first_rows.items():
        triples = splits[split]
        if split in headings:
            splits[split] = triples[np.s_[1:]]
            continue
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


def _finish(
    name: str,
    splits: dict[str, Triples],
    entities: Vocabulary,
    relations: Vocabulary,
    warnings: list[str],
) -> Dataset:
    if not len(splits["train"]):
        raise UserError(f"{name}: the train split is empty; give it one fact per line")
    for split, consequence in (
        ("valid", "the last model is kept instead of the best"),
        ("test", "no test figures can be given"),
    ):
        if not len(splits[split]):
            warnings.append(f"{split} is empty: {consequence}")
    warnings += find_warnings(splits, entities, relations)
    fields: dict[str, Any] = dict(splits)
    return Dataset(name, entities, relations, warnings=tuple(warnings), **fields)
