"""Datasets as calls take them: loaded once, or named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union
from weakref import WeakKeyDictionary

from dglke_distill.base.arguments import checked
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, DataConfig
from dglke_distill.data import catalog
from dglke_distill.data.frames import is_table, read_frames
from dglke_distill.data.identity import located
from dglke_distill.data.table_options import IN_MEMORY, TableOptions, reading
from dglke_distill.data.triples import Dataset

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from dglke_distill.evaluate.data_findings import DataCheck

AnyTable = Union["pandas.DataFrame", "pyarrow.Table"]
"""Triples in memory: one a row, in columns called head, relation and tail, or as ``columns`` say.
Whatever else has ``__arrow_c_stream__``, such as a frame of Polars, is taken as an Arrow table."""

AnyDataset = Union[str, Path, Dataset, AnyTable, Mapping[str, AnyTable]]
"""A name of the catalog, a folder or file, a dataset that is loaded already, or triples in memory:
one table that is split, or tables by split, ``{"train": ..., "valid": ..., "test": ...}``."""

_NAME = "frame"
_OF_TABLES = ("columns", "ignore_extra", "weight_column", "split_seed")

# Where each dataset was read from: a run's settings must say it, so that it can be resumed.
_read_by: WeakKeyDictionary[Dataset, DataConfig] = WeakKeyDictionary()


@checked
def load_dataset(
    name_or_path: Union[str, Path, AnyTable, Mapping[str, AnyTable]] = "cldr",
    *,
    name: Optional[str] = None,
    data_root: Union[str, Path, None] = None,
    cache_dir: Union[str, Path, None] = None,
    format: str = "auto",
    header: Optional[bool] = None,
    split_seed: int = 0,
    offline: bool = False,
    columns: Optional[str] = None,
    delimiter: Optional[str] = None,
    ignore_extra: Optional[bool] = None,
    weight_column: Optional[str] = None,
    literals: Optional[str] = None,
) -> Dataset:
    """Load a dataset: of the catalog by its name, or your own triples, in files or in memory.

    Args:
        name_or_path: a name of the catalog in any letter case, a folder, a file of triples, or
            tables in memory: a pandas.DataFrame or pyarrow.Table that is split as a file is, or
            ``{"train": ..., "valid": ..., "test": ...}`` of these.
        name: what tables in memory are called, ``frame`` if None; other data have theirs.
        data_root: folder that holds datasets already; else ``DGLKE_DISTILL_DATA``.
        cache_dir: folder for downloads.
        format: format of your own files, ``auto`` to find out.
        header: whether your own files begin with a heading; None: found out.
        split_seed: seed where one file is split.
        offline: whether to refuse to download.
        columns: which columns of your own tables to read, as in ``"head=x,relation=y,tail=z"``, by
            names of the heading or numbers from 1 on.
        delimiter: what separates them: one to eight signs, or a word such as ``"semicolon"``.
        ignore_extra: whether further columns, such as dates, are left out; else they are an error.
        weight_column: the column of how much each fact counts.
        literals: ``"keep"`` makes entities of RDF's literals; they are left out if None.

    Returns:
        Names of entities and relations, and the triples ``train``, ``valid`` and ``test``.

    Raises:
        UserError: there is no such dataset, or a file or table is malformed.
    """
    table = is_table(name_or_path)
    if name is not None and not table:
        raise UserError(f"name {name!r:.100}: is for tables in memory; leave it out")
    place = (name or _NAME) if table else str(name_or_path)
    settings = Config.from_mapping(
        {
            "data": {
                "dataset": place if table else located(place), "format": format,
                "split_seed": split_seed, "header": header,
                "columns": columns, "delimiter": delimiter,
                "ignore_extra": ignore_extra, "weight_column": weight_column,
                "literals": literals,
            }
        },
        "load_dataset",
    ).data  # fmt: skip
    if table:
        return _of_table(name_or_path, settings)
    dataset = catalog.load(
        place,
        data_root=None if data_root is None else Path(data_root),
        cache_dir=None if cache_dir is None else Path(cache_dir),
        offline=offline,
        **reading(settings),
    )
    _read_by[dataset] = settings
    return dataset


@checked
def check_data(
    dataset: AnyDataset = "cldr",
    *,
    threshold: float = 0.8,
    data_root: Union[str, Path, None] = None,
    offline: bool = False,
) -> DataCheck:
    """Look for leaks, telling relations, unseen names and skew: ``dglke-distill data check``.

    Args:
        dataset: a name of the catalog, a folder or file, a dataset that is loaded already, or
            tables in memory as ``load_dataset`` takes them.
        threshold: share from which on two relations count as the same, or a relation as the
            product of its heads and tails; above 0, at most 1.
        data_root: folder that holds datasets already; else ``DGLKE_DISTILL_DATA``.
        offline: whether to refuse to download.

    Returns:
        The findings; ``leak("reverse").test.mrr`` is one, ``to_dict()`` has all.

    Raises:
        UserError: there is no such dataset, a file is malformed, or the threshold is none.
    """
    from dglke_distill.evaluate.data_check import check_dataset, check_threshold

    check_threshold(threshold)
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset, data_root=data_root, offline=offline)
    return check_dataset(dataset, threshold)


def data_settings(
    given: Optional[AnyDataset], *trees: Mapping[str, Any]
) -> tuple[dict[str, Any], Optional[Dataset]]:
    """Return the settings that a dataset stands for, and the dataset if it is in memory.

    Args:
        given: None: nothing is stated.
        trees: partial settings, the last one winning, whose section ``data`` says how tables in
            memory are read.

    Raises:
        UserError: a table is malformed.
    """
    if given is None:
        return {}, None
    if is_table(given):
        asked: dict[str, Any] = {"dataset": _NAME}
        for tree in trees:
            asked.update(tree.get("data", {}))
        given = _of_table(given, Config.from_mapping({"data": asked}, "the settings given").data)
    if not isinstance(given, Dataset):
        return {"data": {"dataset": located(str(given))}}, None
    settings = _read_by.get(given, DataConfig(dataset=given.name))
    return {"data": settings.model_dump(exclude_none=True)}, given


def data_begun(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return how tables in memory were read in a run that is gone on with; empty if none were.

    Args:
        saved: its settings.
    """
    data = saved.get("data", {})
    return {"data": data} if data.get("format") == IN_MEMORY else {}


def read_as(given: Optional[AnyDataset], data: DataConfig) -> Optional[AnyDataset]:
    """Return tables in memory as a dataset, read as a model's own data were, else as they are.

    Args:
        given: any dataset; all but tables are returned as they are.
        data: the section ``data`` of the model's settings.

    Raises:
        UserError: a table is malformed.
    """
    if given is None or not is_table(given):
        return given
    own = {key: getattr(data, key) for key in _OF_TABLES}
    found: list[UserError] = []
    for said in (own, {"split_seed": data.split_seed}):
        try:
            return _of_table(given, DataConfig(dataset=_NAME, **said))
        except UserError as error:  # the table may have other columns than the files had
            found.append(error)
    raise found[0]


def _of_table(given: object, settings: DataConfig) -> Dataset:
    """Read tables in memory, and keep how."""
    for key in ("header", "literals", "delimiter"):
        if getattr(settings, key) is not None:
            raise UserError(f"{key} is of files; leave it out for a table in memory")
    if settings.format not in ("auto", IN_MEMORY):
        raise UserError(
            f"format {settings.format!r:.100} is of files; name a table's columns by "
            'columns="head=...,relation=...,tail=..."'
        )
    dataset = read_frames(
        given,
        TableOptions.of(settings),
        name=settings.dataset,
        split_seed=settings.split_seed,
    )
    _read_by[dataset] = settings.model_copy(update={"format": IN_MEMORY})
    return dataset
