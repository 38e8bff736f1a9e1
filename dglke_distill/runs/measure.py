"""What a model is worth on its dataset, measured in the dataset's own way."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any, Callable, Optional

from dglke_distill.config import Config
from dglke_distill.evaluate import (
    RankingResult,
    evaluate_by,
    evaluate_given,
    evaluate_subset,
    popularity_control,
)
from dglke_distill.evaluate.protocols import STANDARD, protocol_named
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import Workspace


def evaluate_model(
    model: KGEModel,
    workspace: Workspace,
    split: str,
    config: Config,
    protocol: str = STANDARD,
) -> RankingResult:
    """Rank a split as its dataset wants it.

    Among the given candidates, where the dataset ships them (OGB); else among all entities, with
    every known answer of train, valid and test filtered.

    Args:
        model: the model.
        workspace: its data.
        split: ``valid`` or ``test``.
        config: memory of a score block.
        protocol: a name of ``evaluate.protocols.PROTOCOLS``.

    Raises:
        UserError: the protocol is unknown, or does not fit the dataset.
    """
    protocol = protocol_named(protocol).name
    dataset, block_bytes = workspace.dataset, config.evaluation.query_block_megabytes << 20
    if dataset.gives_candidates and protocol == STANDARD:
        return evaluate_given(model, dataset, split, by_category=True, block_bytes=block_bytes)
    return evaluate_by(
        protocol, model, dataset, split, workspace.known, query_block_bytes=block_bytes
    )


def measure(
    model: KGEModel,
    workspace: Workspace,
    split: str,
    config: Config,
    relation_names: Optional[Sequence[str]] = None,
    *,
    ranked: Callable[[RankingResult], None] = lambda result: None,
    protocol: str = STANDARD,
) -> dict[str, Any]:
    """Rank a split and return its figures in the form of ``results.json``.

    Where candidates are given, those of the control that ignores the known entity stand beside,
    under ``popularity_control``.

    Args:
        model: see ``evaluate_model``.
        workspace: see ``evaluate_model``.
        split: see ``evaluate_model``.
        config: see ``evaluate_model``.
        protocol: see ``evaluate_model``.
        relation_names: names to use in ``by_relation`` instead of ids.
        ranked: called with the ranking itself, whose single ranks the figures do not hold.
    """
    result = evaluate_model(model, workspace, split, config, protocol)
    ranked(result)
    figures = result.to_dict(relation_names)
    if workspace.dataset.gives_candidates:
        control = popularity_control(workspace.dataset, split).to_dict()
        del control["by_relation"]
        figures["popularity_control"] = control
        figures["protocol"]["evaluator"] = f"ogb {metadata.version('ogb')}"
    return figures


def validation_mrr(model: KGEModel, workspace: Workspace, config: Config) -> float:
    """Return the MRR that chooses the model: of the validation split, or of a sample of it."""
    dataset, block_bytes = workspace.dataset, config.evaluation.query_block_megabytes << 20
    limit, seed = config.training.validation_limit, config.training.seed
    if dataset.gives_candidates:
        return evaluate_given(
            model, dataset, "valid", limit=limit, seed=seed, block_bytes=block_bytes
        ).mrr
    return evaluate_subset(
        model,
        dataset.valid,
        workspace.known,
        limit=limit,
        seed=seed,
        query_block_bytes=block_bytes,
    ).mrr
