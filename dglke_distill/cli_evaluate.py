"""``dglke-distill evaluate``."""

# No `from __future__ import annotations`: typer on Python 3.9 would not see the options.

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console

from dglke_distill import cli_settings as settings
from dglke_distill.cli_output import metrics_table
from dglke_distill.config import Config, merge
from dglke_distill.errors import UserError

__all__ = ["evaluate", "rank_checkpoint"]


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory.")],
    dataset: Annotated[
        Optional[str],
        typer.Option("--dataset", help="Where its dataset lies now, if not where it was."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, valid or test")] = "test",
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    data_root: settings.DataRootFlag = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all figures as JSON instead of a table.")
    ] = False,
) -> None:
    """Rank a split with a trained model: every entity, both sides, known answers filtered."""
    result = rank_checkpoint(checkpoint, settings.given(locals()), split, data_root)
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        Console().print(metrics_table({split: result}))
        if "classification" in result:
            names = {"roc_auc": "ROC-AUC", "average_precision": "average precision"}
            names.update(accuracy="accuracy", f1="F1")
            figures = [f"{name} {result['classification'][key]:.4f}" for key, name in names.items()]
            typer.echo(f"True and false test triples told apart: {', '.join(figures)}")


def rank_checkpoint(
    checkpoint: Path, flags: Mapping[str, Any], split: str, data_root: Optional[Path]
) -> dict[str, Any]:
    """Rank a split of the checkpoint's dataset.

    Returns what ``RankingResult.to_dict`` does and, for the test split of a dataset that ships
    false triples, what ``ClassificationResult.to_dict`` does under ``classification``.

    Args:
        checkpoint: the checkpoint directory.
        flags: where the dataset lies, device and threads, if not as in training.
        split: ``train``, ``valid`` or ``test``.
        data_root: folder that holds datasets already.

    Raises:
        UserError: no checkpoint, no dataset, an empty split, or a dataset with other entities.
    """
    from dglke_distill import pipeline
    from dglke_distill.checkpoint import load_model
    from dglke_distill.evaluate import classify
    from dglke_distill.workspace import prepare

    loaded = load_model(checkpoint)
    tree = loaded.config.model_dump(exclude_none=True)
    for change in settings.overrides(flags, None):
        tree = merge(tree, change)
    config = Config.from_mapping(tree, str(checkpoint))
    workspace = prepare(config, data_root=data_root)
    dataset = workspace.dataset
    for kind in ("entities", "relations"):
        ours, theirs = getattr(loaded, kind), getattr(dataset, kind)
        if ours.fingerprint != theirs.fingerprint:
            raise UserError(
                f"{checkpoint}: trained on {len(ours)} {kind} that are not the {len(theirs)} of "
                f"{dataset.name}, or in another order; name its own dataset by --dataset"
            )
    if not len(dataset.split(split)):
        raise UserError(f"--split {split}: {dataset.name} has no triples there")
    model = loaded.model.to(workspace.device)
    figures = pipeline.evaluate_model(model, workspace, split, config).to_dict(dataset.relations)
    if (
        split == "test"
        and dataset.valid_negatives is not None
        and dataset.test_negatives is not None
    ):
        figures["classification"] = classify(model, dataset).to_dict()
    return figures
