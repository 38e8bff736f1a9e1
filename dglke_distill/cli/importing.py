"""``dglke-distill import``."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from dglke_distill.base.regular_files import resolved
from dglke_distill.cli import settings
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.models import check_new_checkpoint
from dglke_distill.cli.output import show_warnings
from dglke_distill.cli.say import say


def import_model(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(help="Folder in which DGL-KE, OpenKE or PyKEEN left a model.")
    ],
    out: settings.NewCheckpointFlag,
    overwrite: settings.OverwriteFlag = False,
    format: Annotated[
        Optional[str],
        typer.Option(
            "--format", help="Whose folder it is: dglke, openke or pykeen. If not given: found out."
        ),
    ] = None,
    dataset: Annotated[
        Optional[str],
        typer.Option(
            "--dataset",
            help="Name, folder or file of its dataset: rows go into the order of its ids, and the "
            "splits are ranked. If not given: neither.",
        ),
    ] = None,
    data_root: settings.DataRootFlag = None,
    assignments: settings.SetFlag = None,
) -> None:
    """Save another library's model as a checkpoint: a teacher, or a model to use."""
    from dglke_distill.config import Config, merge, parse_assignment
    from dglke_distill.data.datasets_made import of_the_data
    from dglke_distill.data.identity import OtherData, located
    from dglke_distill.distill import loading
    from dglke_distill.runs.workspace import prepare

    if dataset is None:
        why = "goes with --dataset, whose files it says how to read"
        refuse_idle(context, why, "assignments")
        refuse_idle(context, "says where --dataset is found; give that too", "data_root")
    check_new_checkpoint(out, overwrite)
    if dataset is None:
        loading.import_model(folder, out, format, overwrite=overwrite)
    else:
        tree: dict[str, Any] = {"data": {"dataset": located(dataset)}}
        for assignment in assignments or ():
            tree = merge(tree, parse_assignment(assignment))
        config = Config.from_mapping(tree, "--dataset and --set")
        workspace = prepare(config, data_root=data_root)
        loading.import_teacher(folder, out, workspace, config, format, overwrite=overwrite)
        stranger = OtherData(resolved(folder).name, "", None)
        told = stranger.line(workspace.dataset.name, workspace.dataset.fingerprint)
        show_warnings([told, *of_the_data(workspace.dataset.warnings)])
    say(f"written: {out}")
