"""The flags that make up a configuration, shared by ``train`` and ``config show``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from dglke_distill.cli import complete
from dglke_distill.config import Config, parse_assignment
from dglke_distill.runs.settings import flag_trees

DatasetArgument = Annotated[
    Optional[str],
    typer.Argument(
        help="Catalog name (`data list`), or your own folder or file of triples.",
        show_default="cldr",
        autocompletion=complete.datasets,
    ),
]
FactsArgument = Annotated[
    str, typer.Argument(help="A name from `data list`, a folder, or one file of facts.")
]
ModelFlag = Annotated[
    Optional[str],
    typer.Option(
        "--model",
        help="Score function, e.g. complex, in any letter case. If not given: the recipe's; "
        "without one, complex for small data where no loss, negatives, method of training or "
        "other part of a model is asked for; else transe.",
        autocompletion=complete.models,
    ),
]
CheckpointArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_CHECKPOINT",
        help="Zoo name, checkpoint directory, or run directory (of a chain: its last student).",
        autocompletion=complete.published,
    ),
]
StoreFlag = Annotated[
    Optional[str],
    typer.Option(
        "--store",
        help="The only store to use: shipped, a folder, or an address (file, memory, s3, gs, hf, "
        "http, https). If not given: those of DGLKE_DISTILL_STORES, your own, and shipped.",
    ),
]
OfflineFlag = Annotated[
    bool, typer.Option("--offline", help="Use what has been downloaded, and nothing else.")
]
OwnDatasetFlag = Annotated[
    Optional[str],
    typer.Option(
        "--dataset",
        help="Folder, file or name of the dataset that the model was trained on. If not given: "
        "found by its name in the catalog or the data root; a path in a checkpoint is never "
        "opened.",
    ),
]
OtherDataFlag = Annotated[
    bool,
    typer.Option(
        "--allow-other-data",
        help="Go on with other triples than a model was trained on; every output then says so.",
    ),
]
TypesFlag = Annotated[
    Optional[Path],
    typer.Option(
        "--types",
        help="File of lines entity<TAB>type, for typed and type:NAME. Without it, types.tsv in "
        "the folder of --dataset; else typed goes by types learned from the train facts.",
    ),
]
NewCheckpointFlag = Annotated[
    Path, typer.Option("--out", help="Directory of the new checkpoint, to be written.")
]
RunOutFlag = Annotated[
    Optional[Path],
    typer.Option("--out", help="Run directory. If not given: a new one below runs/."),
]
RowsOutFlag = Annotated[
    Optional[Path],
    typer.Option(
        "--out",
        help="New file of the rows: .csv, .jsonl or .parquet. If not given: standard output.",
    ),
]
RowsFormatFlag = Annotated[
    Optional[str],
    typer.Option(
        "--format",
        help="Of the rows: csv, jsonl (a JSON object on each line) or parquet. If not given: by "
        "the ending of --out; csv on standard output.",
    ),
]
OverwriteFlag = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what an earlier call has left at --out. Without it, what is there stays, and "
        "the command is refused.",
    ),
]
MinProbabilityFlag = Annotated[
    Optional[float],
    typer.Option(
        "--min-probability",
        min=0.0,
        max=1.0,
        metavar="P",
        help="Leave out what is less probable, of a model that is calibrated (`calibrate`). "
        "Without it, nothing is left out.",
    ),
]
FiguresAsJsonFlag = Annotated[
    bool, typer.Option("--json", help="Print all figures as JSON instead of a table.")
]
DimFlag = Annotated[
    Optional[int],
    typer.Option(
        "--dim",
        help="Floats per entity; a complex number counts as two. If not given: the recipe's, else "
        "64.",
    ),
]
RecipeFlag = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="Recipe to start from (`recipes list`); auto: the one that fits best; none: bare "
        "defaults.",
    ),
]
ConfigFlag = Annotated[
    Optional[Path],
    typer.Option(
        "--config", help="TOML file of settings, merged over the recipe. If not given: none."
    ),
]
SetFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any setting, e.g. training.patience=3; may be repeated. It wins over all else.",
    ),
]
EpochsFlag = Annotated[
    Optional[int],
    typer.Option(
        "--epochs",
        help="Passes over the train triples (training.epochs). If not given: the recipe's, else "
        "100.",
    ),
]
BatchSizeFlag = Annotated[
    Optional[int],
    typer.Option(
        "--batch-size",
        help="Train triples of a step, in k_vs_all queries (training.batch_size). If not given: "
        "the recipe's, else 1024.",
    ),
]
LearningRateFlag = Annotated[
    Optional[float],
    typer.Option(
        "--lr",
        help="Learning rate of the first step (optimizer.learning_rate). If not given: the "
        "recipe's, else 0.1.",
    ),
]
NegativesFlag = Annotated[
    Optional[int],
    typer.Option(
        "--negatives",
        help="Negative triples for each positive one (negatives.count). If not given: the "
        "recipe's, else 256.",
    ),
]
LossFlag = Annotated[
    Optional[str],
    typer.Option(
        "--loss",
        help="Loss function by its name, e.g. softmax (loss.name). If not given: the recipe's, "
        "else self_adversarial.",
    ),
]
SeedFlag = Annotated[
    Optional[int],
    typer.Option(
        "--seed",
        help="Whole number that all random choices follow from (training.seed). If not given: 0.",
    ),
]
DeviceFlag = Annotated[
    Optional[str],
    typer.Option(
        "--device",
        help="Where to compute: auto, cpu, cuda or cuda:N (training.device). If not given: auto.",
    ),
]
LoadDeviceFlag = Annotated[
    Optional[str],
    typer.Option(
        "--device", help="Where the model lives: auto, cpu, cuda or cuda:N. If not given: cpu."
    ),
]
ThreadsFlag = Annotated[
    Optional[int],
    typer.Option(
        "--threads", help="CPU threads to use (training.threads). If not given: one per core."
    ),
]
DtypeFlag = Annotated[
    Optional[str],
    typer.Option(
        "--dtype",
        help="Numbers that the tables hold: float32 or float64 (training.dtype). If not given: "
        "the recipe's, else float32.",
    ),
]
ProcessesFlag = Annotated[
    Optional[int],
    typer.Option(
        "--processes",
        help="Processes that train one table at once (training.processes). If not given: one.",
    ),
]
MemoryFlag = Annotated[
    Optional[int],
    typer.Option(
        "--memory",
        help="Most memory that the run may take, in MiB (training.memory_megabytes). If not "
        "given: what the machine has available.",
    ),
]
ColumnsFlag = Annotated[
    Optional[str],
    typer.Option(
        "--columns",
        metavar="head=X,relation=Y,tail=Z",
        help="Which columns of your tables to read, by names in their heading or numbers from 1 on "
        "(data.columns); others are left out. If not given: the three that there are.",
    ),
]
DelimiterFlag = Annotated[
    Optional[str],
    typer.Option(
        "--delimiter",
        help="What separates the columns of your tables: one to eight signs, or tab, comma, "
        "semicolon, bar, space (data.delimiter). If not given: commas in .csv files, else tabs.",
    ),
]
IgnoreExtraFlag = Annotated[
    Optional[bool],
    typer.Option(
        "--ignore-extra",
        help="Leave out further columns of your tables, such as dates (data.ignore_extra).",
    ),
]
WeightColumnFlag = Annotated[
    Optional[str],
    typer.Option(
        "--weight-column",
        help="Column, by heading or number, of how much each fact counts (data.weight_column): in "
        "the loss, or with --set training.weighting=sampling in how often it is visited. If not "
        "given: all facts count alike.",
    ),
]
DataRootFlag = Annotated[
    Optional[Path],
    typer.Option(
        "--data-root",
        help="Folder that holds datasets already, one folder each. If not given: that of "
        "DGLKE_DISTILL_DATA.",
    ),
]

SearchFlag = Annotated[
    Optional[str],
    typer.Option(
        "--search",
        help="How long to search for settings on the validation split first: seconds, or e.g. "
        "90s, 5m, 1h, or none. If not given: 60s where no recipe names the dataset and nothing is "
        "--set; else none.",
    ),
]
TrackFlag = Annotated[
    Optional[str],
    typer.Option(
        "--track",
        metavar="TRACKER",
        help="Tell a tracker how the training goes: tensorboard, wandb or mlflow. If not given: "
        "none.",
    ),
]

Tree = Mapping[str, Any]
"""Settings by section, not all of them."""


def overrides(flags: Mapping[str, Any], assignments: Optional[Sequence[str]]) -> list[Tree]:
    """Return the partial trees that ``given`` flags and ``--set`` stand for; ``--set`` wins.

    Raises:
        UserError: as ``assigned``.
    """
    return [*flag_trees(flags), *assigned(assignments)]


def assigned(
    assignments: Optional[Sequence[str]],
    check: Callable[[Tree, str], object] = Config.from_mapping,
) -> list[Tree]:
    """Return the partial trees that ``--set`` stands for: of a run, unless ``check`` is of others.

    Each is looked at by itself, so that an error names what was typed.

    Raises:
        UserError: an assignment is malformed, or of an unknown setting or a bad value.
    """
    trees: list[Tree] = [parse_assignment(text) for text in assignments or ()]
    for tree in trees:
        check(tree, "--set")
    return trees


def assigned_chain(assignments: Optional[Sequence[str]]) -> list[Tree]:
    """Return the partial trees of a chain's settings that ``--set`` stands for; see ``assigned``.

    Raises:
        UserError: an assignment is malformed, or of an unknown setting or a bad value.
    """
    from dglke_distill.distill.settings import check_part

    return assigned(assignments, check_part)


def options_of(assignments: Optional[Sequence[str]]) -> dict[str, Any]:
    """Return the options of a component by their names that ``--set OPTION=VALUE`` stands for.

    Raises:
        UserError: an assignment is malformed.
    """
    return {key: of for text in assignments or () for key, of in parse_assignment(text).items()}
