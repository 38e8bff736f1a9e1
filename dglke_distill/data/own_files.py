"""A user's own data, wherever the triples lie: in a folder, in one file, in a zip archive."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Optional

from dglke_distill.base.errors import UserError
from dglke_distill.data.file_kinds import PARTITION_FILE
from dglke_distill.data.formats import read_file, read_folder
from dglke_distill.data.table_options import TableOptions
from dglke_distill.data.triples import Dataset
from dglke_distill.data.zipped_splits import holds_splits, read_zip


def read_own(
    path: Path,
    format: str,
    header: Optional[bool],
    split_seed: int,
    split_fractions: tuple[float, float, float],
    table: TableOptions,
) -> Dataset:
    """Read a folder, a file, or a zip archive that holds the splits.

    Args:
        path: where it is.
        format: see ``formats``.
        header: whether files begin with a heading; None: found out.
        split_seed: seed when one file is split.
        split_fractions: shares of train, valid and test when one file is split.
        table: which columns are read, and what separates them.

    Raises:
        UserError: as for ``formats.read_folder`` and ``formats.read_file``.
    """
    if path.is_dir():
        if (path / PARTITION_FILE).is_file():
            raise UserError(
                f"{path}: is a dataset cut into parts; train on it with `dglke-distill dist launch "
                f"--local N -- train {shlex.quote(str(path))}`, or give the dataset that it was "
                "cut from"
            )
        return read_folder(path, format=format, header=header, table=table)
    if holds_splits(path):
        return read_zip(
            path,
            lambda place: read_folder(
                place, format=format, header=header, table=table, name=path.stem
            ),
        )
    return read_file(
        path,
        format=format,
        header=header,
        split_seed=split_seed,
        split_fractions=split_fractions,
        table=table,
    )


def no_columns(name: str) -> UserError:
    """Return the error that columns are chosen of data that have a layout of their own."""
    return UserError(
        f"{name} has a layout of its own: --columns, --delimiter, --ignore-extra and "
        "--weight-column are for your own tables; leave them away"
    )
