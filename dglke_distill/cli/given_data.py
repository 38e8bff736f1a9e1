"""How commands on data read them: the flags, ``--set``, and loading by both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, DataConfig, merge, parse_assignment
from dglke_distill.data import catalog
from dglke_distill.data.identity import check_named
from dglke_distill.data.table_options import reading
from dglke_distill.data.triples import Dataset
from dglke_distill.runs.settings import stated_reading

DataSetFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set",
        metavar="data.KEY=VALUE",
        help="How your files are read, as for `train`: data.format, data.header; may be repeated.",
    ),
]


def data_flags(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the data that flags of a command stand for.

    Args:
        arguments: of the command.
    """
    found: dict[str, Any] = {}
    for tree in stated_reading(arguments):
        found.update(tree["data"])
    return found


def load_own(
    name_or_path: str,
    flags: dict[str, Any],
    assignments: Optional[list[str]],
    data_root: Optional[Path],
    **options: Any,
) -> Dataset:
    """Load a dataset as the settings of its section say, which flags and ``--set`` give.

    Args:
        name_or_path: a name of the catalog, or a path.
        flags: settings of the data.
        assignments: of ``--set``; they win.
        data_root: folder of pre-placed datasets.
        options: of ``catalog.load``.

    Raises:
        UserError: an assignment is none of the data, or the dataset cannot be read.
    """
    data = own_data(name_or_path, flags, assignments)
    return catalog.load(data.dataset, data_root=data_root, **reading(data), **options)


def own_data(
    place: str, flags: Mapping[str, Any], assignments: Optional[Sequence[str]]
) -> DataConfig:
    """Return how a command reads a user's own data, by its flags and ``--set``.

    Args:
        place: name or path of the data.
        flags: see ``data_flags``.
        assignments: of ``--set``; they win.

    Raises:
        UserError: a setting is unknown or malformed, or not of the data.
    """
    check_named(place)
    tree: dict[str, Any] = {"data": {"dataset": place, **flags}}
    for text in assignments or ():
        change = parse_assignment(text)
        if set(change) != {"data"}:
            raise UserError(f"--set {text}: only settings of the data are taken here, data.*")
        tree = merge(tree, change)
    return Config.from_mapping(tree, "--set").data
