"""``dglke-distill import``."""

# No `from __future__ import annotations`: typer on Python 3.9 would not see the options.

from pathlib import Path
from typing import Annotated, Optional

import typer

from dglke_distill.cli import settings
from dglke_distill.cli.say import say

__all__ = ["import_model"]


def import_model(
    folder: Annotated[
        Path, typer.Argument(help="Folder in which DGL-KE, OpenKE or PyKEEN left a model.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint directory to write.")],
    format: Annotated[
        Optional[str],
        typer.Option("--format", help="dglke, openke or pykeen; if not given, found out."),
    ] = None,
    dataset: Annotated[
        Optional[str],
        typer.Option(
            "--dataset",
            help="Its dataset: rows go into the order of its ids, and the splits are ranked.",
        ),
    ] = None,
    data_root: settings.DataRootFlag = None,
) -> None:
    """Save another library's model as a checkpoint: a teacher, or a model to use."""
    from dglke_distill.config import Config
    from dglke_distill.distill import loading
    from dglke_distill.workspace import prepare

    if dataset is None:
        loading.import_model(folder, out, format)
    else:
        config = Config.from_mapping({"data": {"dataset": dataset}}, "--dataset")
        loading.import_teacher(folder, out, prepare(config, data_root=data_root), config, format)
    say(f"written: {out}")
