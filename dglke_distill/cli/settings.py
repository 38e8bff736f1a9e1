"""The flags that make up a configuration, shared by ``train`` and ``config show``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from dglke_distill.config import parse_assignment
from dglke_distill.runs.settings import FLAGS, flag_trees

DatasetArgument = Annotated[
    Optional[str],
    typer.Argument(
        help="Catalog name, or your own folder or file of triples.", show_default="cldr"
    ),
]
ModelFlag = Annotated[
    Optional[str], typer.Option("--model", help="Score function, in any letter case.")
]
CheckpointArgument = Annotated[
    str, typer.Argument(metavar="NAME_OR_CHECKPOINT", help="Zoo name, or checkpoint directory.")
]
OwnDatasetFlag = Annotated[
    Optional[str],
    typer.Option(
        "--dataset",
        help="Folder, file or name of the dataset it was trained on, where it is not found by its "
        "name in the catalog or the data root. A path in a checkpoint is never opened.",
    ),
]
OtherDataFlag = Annotated[
    bool,
    typer.Option(
        "--allow-other-data",
        help="Go on with other triples than a model was trained on; every output then says so.",
    ),
]
FiguresAsJsonFlag = Annotated[
    bool, typer.Option("--json", help="Print all figures as JSON instead of a table.")
]
DimFlag = Annotated[
    Optional[int], typer.Option("--dim", help="Floats per entity; complex parts counted.")
]
RecipeFlag = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="Shipped recipe to start from (see `recipes list`); auto: the best fit; none.",
    ),
]
ConfigFlag = Annotated[
    Optional[Path], typer.Option("--config", help="TOML file of settings, laid over the recipe.")
]
SetFlag = Annotated[
    Optional[list[str]],
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting; may be repeated."),
]
EpochsFlag = Annotated[Optional[int], typer.Option("--epochs", help="training.epochs")]
BatchSizeFlag = Annotated[Optional[int], typer.Option("--batch-size", help="training.batch_size")]
LearningRateFlag = Annotated[Optional[float], typer.Option("--lr", help="optimizer.learning_rate")]
NegativesFlag = Annotated[
    Optional[int], typer.Option("--negatives", help="negatives.count, per positive")
]
LossFlag = Annotated[Optional[str], typer.Option("--loss", help="loss.name")]
SeedFlag = Annotated[Optional[int], typer.Option("--seed", help="training.seed")]
DeviceFlag = Annotated[
    Optional[str], typer.Option("--device", help="training.device: auto, cpu, cuda or cuda:N")
]
ThreadsFlag = Annotated[
    Optional[int], typer.Option("--threads", help="training.threads; all cores if not given")
]
DtypeFlag = Annotated[
    Optional[str], typer.Option("--dtype", help="training.dtype: float32 or float64")
]
ProcessesFlag = Annotated[
    Optional[int],
    typer.Option("--processes", help="training.processes: how many train one table at once"),
]
MemoryFlag = Annotated[
    Optional[int],
    typer.Option("--memory", help="training.memory_megabytes: what the run may take, in MiB"),
]
DataRootFlag = Annotated[
    Optional[Path],
    typer.Option(
        "--data-root",
        help="Folder that holds datasets already, one folder each; else DGLKE_DISTILL_DATA.",
    ),
]

SearchFlag = Annotated[
    Optional[str],
    typer.Option(
        "--search",
        help="How long to search for settings on the validation split first, e.g. 60s, or none. "
        "If not given: 60s where no recipe names the dataset and nothing is --set; else none.",
    ),
]

Tree = Mapping[str, Any]
"""Settings by section, not all of them."""


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags among a command's arguments: the names in ``FLAGS`` that are not None."""
    return {n: value for n, value in arguments.items() if n in FLAGS and value is not None}


def overrides(flags: Mapping[str, Any], assignments: Optional[Sequence[str]]) -> list[Tree]:
    """Return the partial trees that ``given`` flags and ``--set`` stand for; ``--set`` wins.

    Raises:
        UserError: an assignment is malformed.
    """
    return [*flag_trees(flags), *assigned(assignments)]


def assigned(assignments: Optional[Sequence[str]]) -> list[Tree]:
    """Return the partial trees that ``--set`` stands for.

    Raises:
        UserError: an assignment is malformed.
    """
    return [parse_assignment(text) for text in assignments or ()]
