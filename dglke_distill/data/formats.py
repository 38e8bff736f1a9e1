"""A user's own triples: which format a folder or file is in, and reading it into a ``Dataset``.

Formats (letters give the columns' order, any permutation of ``hrt``):

- ``names_hrt`` (also ``raw_udd_hrt``, DGL-KE's word): ``train``, ``valid`` and ``test`` files of
  names, ending in ``.txt``, ``.tsv``, ``.csv``, ``.del`` or nothing, in RDF (``.nt``, ``.ttl``) or
  Parquet, each plain or compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``, ``.zip``); see
  ``layout.split_files`` for other names. Commas separate columns in ``.csv`` files, tabs
  elsewhere. With ``entities.dict`` and ``relations.dict`` beside them, as ``dgl.data`` has them,
  those give the ids.
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
from typing import Callable, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.data.datasets_made import Weight, finished, split_up
from dglke_distill.data.dictionaries import read_dictionary
from dglke_distill.data.id_files import read_id_triples
from dglke_distill.data.layout import (
    SPLITS,
    Format,
    check_order,
    detect_file,
    detect_folder,
    dictionaries,
    is_libkge,
    missing_split,
    openke_file,
    parse_format,
    sibling_splits,
    split_files,
)
from dglke_distill.data.name_tables import NameTable, is_special, open_table
from dglke_distill.data.named_splits import read_named
from dglke_distill.data.packings import without_packing
from dglke_distill.data.split_names import parse_split_name
from dglke_distill.data.table_options import TableOptions
from dglke_distill.data.triples import Dataset, Triples, Vocabulary


def read_folder(
    folder: Path,
    *,
    format: str = "auto",
    header: Optional[bool] = None,
    name: Optional[str] = None,
    table: Optional[TableOptions] = None,
) -> Dataset:
    """Read a folder with train, valid and test files.

    Args:
        folder: where the files are.
        format: one of ``FORMAT_NAMES``, letters in any order.
        header: whether each file begins with a heading; None: found out.
        name: the dataset's name; the folder's own by default.
        table: which columns are read, and what separates them.

    Raises:
        UserError: a file is missing or malformed; file, line and fix are named.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: check the name")
    layout = parse_format(format) or detect_folder(folder, header, table)
    warnings: list[str] = []
    files = split_files(folder, layout, warnings)
    for split in SPLITS:
        if split not in files:
            raise missing_split(folder, split, layout)
    entities, relations, splits, weight = _read_files(
        folder, files, layout, header, warnings, table
    )
    return finished(name or resolved(folder).name, splits, entities, relations, warnings, weight)


def read_file(
    path: Path,
    *,
    format: str = "auto",
    header: Optional[bool] = None,
    split_seed: int = 0,
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    table: Optional[TableOptions] = None,
) -> Dataset:
    """Read one file of facts and split it; see ``split_triples`` for what is guaranteed.

    Args:
        path: the file; its dictionaries, if any, lie beside it.
        format: one of ``FORMAT_NAMES``, letters in any order.
        header: whether the file begins with a heading; None: found out.
        split_seed: seed of the split.
        split_fractions: shares of train, valid and test.
        table: which columns are read, and what separates them.

    Raises:
        UserError: as for ``read_folder``, or no fact can be held out.
    """
    layout = parse_format(format) or detect_file(path, header, table)
    warnings: list[str] = []
    entities, relations, splits, weight = _read_files(
        path.parent, {"train": path}, layout, header, warnings, table
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
    label = (str(path), path.name, Path(without_packing(path.name)).stem)
    return split_up(
        label, facts, entities, relations, warnings, weight, split_seed, split_fractions
    )


def read_tables(
    places: Mapping[str, Path],
    opened: Callable[[str, list[str]], NameTable],
    *,
    name: str,
    split_seed: int,
    split_fractions: Optional[tuple[float, float, float]],
) -> Dataset:
    """Read tables of names that are in memory, as files of names are.

    Args:
        places: by split, train first: what each table is called in messages.
        opened: returns the reader of a split's table, and fills a list of warnings.
        name: the dataset's name.
        split_seed: seed where the only table is split.
        split_fractions: shares of train, valid and test into which the only table is split; None:
            there is one for each.

    Raises:
        UserError: as for ``read_folder`` and ``read_file``.
    """
    warnings: list[str] = []
    weights: list[NDArray[np.float32]] = []
    entities, relations, splits = read_named(
        places, Format("names"), (None, None), None, warnings,
        lambda split: opened(split, warnings), weights,
    )  # fmt: skip
    weight = _joined(weights)
    if split_fractions is None:
        return finished(name, splits, entities, relations, warnings, weight)
    facts = splits["train"]
    if not len(facts):
        raise UserError(f"{name} is empty: give it one fact per row")
    label = (name, name, name)
    return split_up(
        label, facts, entities, relations, warnings, weight, split_seed, split_fractions
    )


def read_facts(
    path: Path,
    *,
    format: str = "auto",
    header: Optional[bool] = None,
    table: Optional[TableOptions] = None,
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Read one file of facts by names, as ``read_file`` does, without a split.

    Args:
        path: the file; dictionaries beside it are not looked at.
        format: ``names_hrt``, letters in any order; ``auto`` stands for it.
        header: whether the file begins with a heading; None: found out.
        table: which columns are read, and what separates them.

    Returns:
        Head, relation and tail of each fact in the file's order, and warnings.

    Raises:
        UserError: as for ``read_file``, or the format is one of ids.
    """
    layout = parse_format(format) or Format("names", "hrt")
    if layout.family != "names":
        raise UserError(f"data.format {format}: new facts are read by names; say names_hrt")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give one file of facts")
    warnings: list[str] = []
    special = is_special(path, table)
    if header is not False and not special:
        check_order(path, layout, warnings)

    def opened(split: str) -> Optional[NameTable]:
        if not special:
            return None
        return open_table(
            path, table, order=layout.order, header=header, warnings=warnings, weigh=False
        )

    entities, relations, splits = read_named(
        {"train": path}, layout, (None, None), header, warnings, opened, []
    )
    facts = splits["train"]
    if not len(facts):
        raise UserError(f"{path}: is empty; give it one fact per line")
    columns = (facts.head, entities), (facts.relation, relations), (facts.tail, entities)
    rows = list(zip(*([names[i] for i in ids.tolist()] for ids, names in columns)))
    return rows, warnings


def _read_files(
    folder: Path,
    files: Mapping[str, Path],
    layout: Format,
    header: Optional[bool],
    warnings: list[str],
    table: Optional[TableOptions],
) -> tuple[Vocabulary, Vocabulary, dict[str, Triples], Weight]:
    """Read files of triples by split name, with the dictionaries that lie in ``folder``."""
    entity_file, relation_file = dictionaries(folder, files["train"])
    openke = layout.family == "openke"
    special = {split: is_special(path, table) for split, path in files.items()}
    weights: list[NDArray[np.float32]] = []

    def opened(split: str) -> Optional[NameTable]:
        if not special[split]:
            return None
        return open_table(
            files[split], table, order=layout.order, header=header, warnings=warnings,
            weigh=split == "train",
        )  # fmt: skip

    if openke and any(special.values()):
        raise UserError(
            f"{folder}: OpenKE's files have three columns with blanks between them; leave "
            "--columns, --delimiter, --ignore-extra and --weight-column away"
        )
    if openke:
        entity_file, relation_file = openke_file(folder, "entity"), openke_file(folder, "relation")
        if header:
            raise UserError(
                f"{folder}: OpenKE's files have a count in their first line, and no heading; leave "
                f"data.header away"
            )
    elif header is not False and not special["train"]:
        check_order(files["train"], layout, warnings)
    if layout.family == "names":
        named = read_named(
            files, layout, (entity_file, relation_file), header, warnings, opened, weights
        )
        return *named, _joined(weights)
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
            table=opened(split),
        )
        for split, path in files.items()
    }
    if table is not None and table.weight_column is not None:
        raise UserError(
            f"{folder}: weights are read beside names alone (--set data.format=names_hrt)"
        )
    return entities, relations, splits, None


def _joined(weights: list[NDArray[np.float32]]) -> Weight:
    return np.concatenate(weights) if weights else None
