"""Datasets as calls take them: loaded once, or named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union
from weakref import WeakKeyDictionary

from dglke_distill.config import Config, DataConfig
from dglke_distill.data import catalog
from dglke_distill.data.identity import located
from dglke_distill.data.table_options import reading
from dglke_distill.data.triples import Dataset

if TYPE_CHECKING:
    from dglke_distill.evaluate.data_findings import DataCheck

__all__ = ["AnyDataset", "check_data", "data_settings", "load_dataset"]

AnyDataset = Union[str, Path, Dataset]
"""A name of the catalog, a folder or file, or a dataset that is loaded already."""

# Where each dataset was read from: a run's settings must say it, so that it can be resumed.
_read_by: WeakKeyDictionary[Dataset, DataConfig] = WeakKeyDictionary()


def load_dataset(
    name_or_path: Union[str, Path] = "cldr",
    *,
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
    """Load a dataset: of the catalog by its name, or your own triples.

    Args:
        name_or_path: a name of the catalog in any letter case, a folder, or a file of triples.
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
        UserError: there is no such dataset, or a file is malformed.
    """
    place = str(name_or_path)
    settings = Config.from_mapping(
        {
            "data": {
                "dataset": located(place), "format": format, "split_seed": split_seed,
                "header": header, "columns": columns, "delimiter": delimiter,
                "ignore_extra": ignore_extra, "weight_column": weight_column,
                "literals": literals,
            }
        },
        "load_dataset",
    ).data  # fmt: skip
    dataset = catalog.load(
        place,
        data_root=None if data_root is None else Path(data_root),
        cache_dir=None if cache_dir is None else Path(cache_dir),
        offline=offline,
        **reading(settings),
    )
    _read_by[dataset] = settings
    return dataset


def check_data(
    dataset: AnyDataset = "cldr",
    *,
    threshold: float = 0.8,
    data_root: Union[str, Path, None] = None,
    offline: bool = False,
) -> DataCheck:
    """Look for leaks, telling relations, unseen names and skew: ``dglke-distill data check``.

    Args:
        dataset: a name of the catalog, a folder or file, or a dataset that is loaded already.
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


def data_settings(given: Optional[AnyDataset]) -> tuple[dict[str, Any], Optional[Dataset]]:
    """Return the settings that a dataset stands for, and the dataset if it is loaded already.

    Args:
        given: None: nothing is stated.
    """
    if given is None:
        return {}, None
    if not isinstance(given, Dataset):
        return {"data": {"dataset": located(str(given))}}, None
    settings = _read_by.get(given, DataConfig(dataset=given.name))
    return {"data": settings.model_dump(exclude_none=True)}, given
