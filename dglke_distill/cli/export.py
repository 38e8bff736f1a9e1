"""``dglke-distill export`` and ``dglke-distill export-formats``."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.cli import complete, settings
from dglke_distill.cli.models import check_outside, load_given
from dglke_distill.cli.say import say


def export(
    model: settings.CheckpointArgument,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="What to write: a name from `dglke-distill formats`.",
            autocompletion=complete.formats,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="New file or folder, as the format has it, to be written.")
    ],
    overwrite: settings.OverwriteFlag = False,
    assignments: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the format (`dglke-distill formats`); may be repeated.",
        ),
    ] = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
) -> None:
    """Write a model in another program's format."""
    from dglke_distill.interop import export_model

    options = settings.options_of(assignments)
    check_outside(out, model)
    loaded = load_given(model, store=store, offline=offline)
    place = export_model(loaded, format, out, options, say, overwrite=overwrite)
    say(f"written: {place}")


def formats() -> None:
    """Print the formats of `export`, with their options and what these are if not given."""
    from rich.console import Group
    from rich.table import Table

    from dglke_distill.interop import FORMATS

    table = Table(box=None)
    for column in ("format", "writes", "options (--set)"):
        table.add_column(column)
    for name in FORMATS:
        try:
            format = FORMATS.find(name)
        except UserError as error:  # one broken plug-in does not hide the others
            table.add_row(name, f"broken: {error}", "")
            continue
        fields = format.Options.model_fields.items()
        options = (f"{key}={field.default}: {field.description}" for key, field in fields)
        table.add_row(name, format.about, Group(*options))
    SafeConsole().print(table)
