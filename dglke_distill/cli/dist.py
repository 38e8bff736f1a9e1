"""``dglke-distill dist``: training on many machines, over DGL's own engine."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from dglke_distill.base.errors import UserError
from dglke_distill.cli import settings
from dglke_distill.cli.data import YesFlag, agree_to_download
from dglke_distill.cli.say import say
from dglke_distill.config import Config

__all__ = ["dist_app"]

dist_app = typer.Typer(
    help="Training on many machines, or by many processes, over DGL's own engine.",
    no_args_is_help=True,
)


@dist_app.command("partition")
def dist_partition(
    dataset: Annotated[
        str, typer.Argument(help="A name from `data list`, a folder, or one file of facts.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for the parts.")],
    parts: Annotated[
        int, typer.Option("--parts", metavar="N", help="How many parts, one for each machine.")
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="metis cuts few facts apart; random is quicker and takes less memory.",
        ),
    ] = "metis",
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=(1 << 31) - 1, help="Seed of the method random.")
    ] = 0,
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    weight_column: settings.WeightColumnFlag = None,
    data_root: settings.DataRootFlag = None,
    yes: YesFlag = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what memory it needs, and stop.")
    ] = False,
) -> None:
    """Cut a dataset into parts, one for each machine, by DGL's partitioner.

    Relations, names and all splits travel with the parts; the same call writes the same bytes.
    """
    if method.lower() not in ("metis", "random"):
        raise UserError(f"--method {method!r:.40}: choose metis or random")
    chosen = cast(Literal["metis", "random"], method.lower())
    tree: dict[str, object] = {"dataset": dataset}
    for given in settings.given_data(locals()):
        tree.update(given["data"])
    from dglke_distill.base.files import check_replaceable
    from dglke_distill.data.identity import located_data
    from dglke_distill.data.partitioning import (
        check_partition_memory,
        partition,
        partition_bytes,
    )
    from dglke_distill.runs.memory import DataSize, bytes_text
    from dglke_distill.runs.workspace import load_data

    config = Config.from_mapping({"data": tree}, "dist partition").data
    config = located_data(config)
    check_replaceable(out)
    agree_to_download(dataset, yes, data_root)
    loaded = None
    size = DataSize.published(config.dataset)
    if size is None:
        loaded = load_data(config, data_root=data_root)
        size = DataSize.of(loaded)
    need = partition_bytes(size.entities, size.train, size.valid + size.test, chosen)
    say(f"needs about {bytes_text(need)} of memory")
    check_partition_memory(need, dataset)
    if dry_run:
        return
    if loaded is None:
        loaded = load_data(config, data_root=data_root)
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    found = partition(loaded, config, out, parts, chosen, seed)
    for number, (entities, facts) in enumerate(zip(found.entities, found.facts)):
        say(f"part {number}: {entities:,} entities, {facts:,} facts")
    say(f"wrote {out}; train on it with `dglke-distill dist launch`")
