"""``dglke-distill dist``: training on many machines, over DGL's own engine."""

# No `from __future__ import annotations`: as in all files that import typer.

from pathlib import Path
from typing import Annotated, Literal, Optional, cast

import typer

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.cli import settings
from dglke_distill.cli.data import YesFlag, agree_to_download
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.say import say
from dglke_distill.config import Config
from dglke_distill.runs.settings import stated_reading

dist_app = typer.Typer(
    help="Training on many machines, or by many processes, over DGL's own engine.",
    no_args_is_help=True,
)


@dist_app.command("partition")
def dist_partition(
    context: typer.Context,
    dataset: settings.FactsArgument,
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
        int,
        typer.Option(
            "--seed", min=0, max=(1 << 31) - 1, help="Seed of --method random; metis has its own."
        ),
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

    Relations, names and all splits travel with the parts; the same call gives the same parts.
    """
    if method.lower() not in ("metis", "random"):
        raise UserError(f"--method {method!r:.40}: choose metis or random")
    if method.lower() == "metis":
        refuse_idle(context, "is of --method random; metis has its own", "seed")
    chosen = cast(Literal["metis", "random"], method.lower())
    tree: dict[str, object] = {"dataset": dataset}
    for given in stated_reading(locals()):
        tree.update(given["data"])
    from dglke_distill.data.identity import located_data
    from dglke_distill.data.partitioning import (
        check_partition_memory,
        check_place,
        partition,
        partition_bytes,
    )
    from dglke_distill.runs.memory import bytes_text
    from dglke_distill.runs.memory_parts import DataSize
    from dglke_distill.runs.workspace import dataset_labels, load_data

    config = Config.from_mapping({"data": tree}, "dist partition").data
    config = located_data(config)
    check_place(out)
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
    labels = dataset_labels(loaded, config, data_root)
    found = partition(loaded, config, out, parts, chosen, seed, labels)
    for number, (entities, facts) in enumerate(zip(found.entities, found.facts)):
        say(f"part {number}: {plural(entities, 'entity')}, {plural(facts, 'fact')}")
    say(f"wrote {out}; train on it with `dglke-distill dist launch`")


@dist_app.command("launch")
def dist_launch(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- train|run PARTS ...",
            help="What to run: train, or run for a whole chain, with its own options; PARTS is a "
            "folder that `dist partition` wrote, at the same place on each host.",
        ),
    ],
    local: Annotated[
        Optional[int],
        typer.Option(
            "--local",
            min=1,
            max=256,
            metavar="N",
            help="N trainers on this host alone. If not given: those of --hosts.",
        ),
    ] = None,
    hosts: Annotated[
        Optional[Path],
        typer.Option(
            "--hosts",
            help="File of hosts, one a line for each part: its name, its address and port if they "
            "are others. The first one reads and writes the run directory. If not given: --local "
            "is.",
        ),
    ] = None,
    torchrun: Annotated[
        bool,
        typer.Option(
            "--torchrun",
            help="torchrun has started this on each host: its environment says where the others "
            "are, and how many trainers each host has.",
        ),
    ] = False,
    trainers: Annotated[
        int, typer.Option("--trainers", min=1, max=256, help="Trainers on each of --hosts.")
    ] = 1,
    negatives_from: Annotated[
        str,
        typer.Option(
            "--negatives-from",
            help="joint: any entity is drawn; local: those of the trainer's own machine, as in "
            "DGL-KE, which moves fewer rows over the network.",
        ),
    ] = "joint",
    port: Annotated[
        Optional[int],
        typer.Option(
            "--port",
            min=1024,
            max=65535,
            help="Port of the server on each of --hosts, where the file states none. If not given: "
            "30050.",
        ),
    ] = None,
    master_port: Annotated[
        int,
        typer.Option(
            "--master-port",
            min=1024,
            max=65535,
            help="Port of the first of --hosts where trainers find each other.",
        ),
    ] = 29555,
    rsh: Annotated[
        str,
        typer.Option("--rsh", help="What runs a command on a host, whose name is put behind it."),
    ] = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15",
    python: Annotated[
        Optional[str],
        typer.Option("--python", help="Interpreter on --hosts. If not given: as on this host."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=1,
            help="Seconds that hosts may take to answer, and trainers to find each other.",
        ),
    ] = 300.0,
    show_processes: Annotated[
        bool, typer.Option("--show-processes", help="Print the job's name and all process ids.")
    ] = False,
    teacher: Annotated[
        Optional[Path],
        typer.Option(
            "--teacher",
            help="With train: checkpoint that the model learns from besides the facts; its table "
            "lies in parts on the hosts as well. If not given: the model learns from the facts "
            "alone.",
        ),
    ] = None,
) -> None:
    """Train a model, or a whole chain, by many processes: on several hosts by ssh, or on this one.

    Every host runs a server of DGL with its part of the graph and of the tables, and trainers. If
    any process or host fails, the command says which, stops the others, and exits with code 2.
    """
    if hosts is None:
        why = "is of --hosts"
        if torchrun:
            why += "; torchrun has said it by its own options, so leave it out"
        elif local is not None:
            why += "; --local says how many trainers there are on this host, so leave it out"
        refuse_idle(context, why, "trainers", "port", "master_port", "rsh", "python")
    from dglke_distill.cli.launched_run import launch_chain
    from dglke_distill.cli.launching import Given, check_given, run_launch

    given = Given(
        command, local, hosts, trainers, negatives_from, port, master_port, rsh, python, timeout,
        show_processes, teacher, torchrun,
    )  # fmt: skip
    given = check_given(given)
    if command[0] == "run":
        launch_chain(given)
    else:
        run_launch(given)
