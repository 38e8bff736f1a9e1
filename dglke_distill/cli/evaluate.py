"""``dglke-distill evaluate``."""

from typing import Annotated

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.cli import settings
from dglke_distill.cli.models import load_given
from dglke_distill.cli.output import metrics_table, show_warnings
from dglke_distill.cli.say import say, say_json

__all__ = ["evaluate"]


def evaluate(
    model: settings.CheckpointArgument,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    split: Annotated[
        str, typer.Option("--split", help="Which triples to rank: train, valid or test.")
    ] = "test",
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="all: every triple and every entity, the standard; seen: without triples and "
            "candidates that train lacks, as PyKEEN; no-self: the question's own entity is no "
            "candidate, as in MuRP's code. Figures of different protocols do not compare.",
        ),
    ] = "all",
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    as_json: settings.FiguresAsJsonFlag = False,
) -> None:
    """Rank a split with a trained model: every entity, both sides, known answers filtered."""
    split = split.lower()
    flags = settings.given({**locals(), "model": None})
    from dglke_distill.evaluate.protocols import protocol_named
    from dglke_distill.runs.train_run import rank_loaded

    result, _ = rank_loaded(
        load_given(model, store=store, offline=offline),
        split,
        name=model,
        settings=settings.overrides(flags, None),
        data_root=data_root,
        allow_other_data=allow_other_data,
        protocol=protocol_named(protocol).name,
    )
    show_warnings(result.warnings, err=as_json)
    if as_json:
        say_json(result.to_tree())
    else:
        SafeConsole().print(metrics_table({split: result}))
        if result.classification is not None:
            names = {"roc_auc": "ROC-AUC", "average_precision": "average precision"}
            names.update(accuracy="accuracy", f1="F1")
            figures = [
                f"{name} {getattr(result.classification, key):.4f}" for key, name in names.items()
            ]
            say(f"True and false test triples told apart: {', '.join(figures)}")
