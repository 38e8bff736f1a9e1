"""The results of a comparison: a row per method and seed, and what each gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from dglke_distill.artifacts.results import (
    SCHEMA,
    ChainResults,
    ComparisonResults,
    ComparisonRow,
    MethodGain,
    SplitFigures,
    StageResults,
)
from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.distill.controls import SEARCHES
from dglke_distill.distill.finished import chain_seconds, data_warnings
from dglke_distill.distill.gains import chain_folder
from dglke_distill.distill.methods import METHODS
from dglke_distill.distill.tuner import Tuned, saved_tuned
from dglke_distill.distill.verdict import seconds_to_reach

CONTROL = "direct"
"""The method that the others are compared with."""


def comparison_results(
    chains: Sequence[ChainResults],
    teachers: Sequence[StageResults],
    gains: Mapping[str, MethodGain],
    folder: Path,
) -> ComparisonResults:
    """Return what chains of several methods say side by side.

    Args:
        chains: one per method and seed, in the order of the rows.
        teachers: the stages of the teachers that they share; at least one.
        gains: what each method gains over direct training.
        folder: with a directory ``METHOD-seedN`` for each chain.

    Raises:
        UserError: a model has no test figures, or they are of another protocol.
    """
    tree = {
        "schema": SCHEMA,
        "kind": "comparison",
        "dataset": chains[0].dataset,
        "teacher": teachers[0],
        "more_teachers": list(teachers[1:]),
        "teacher_seconds": chain_seconds(teachers),
        "data_warnings": data_warnings([*teachers, *(s for c in chains for s in c.stages)]),
        "rows": _rows(chains, teachers, folder),
        "gains": dict(gains),
        "provenance": runtime.provenance(),
    }
    return ComparisonResults.of(tree, "comparison")


def _to_direct(
    chain: ChainResults, goal: Optional[float], teachers: Sequence[StageResults], folder: Path
) -> Optional[float]:
    """Return the seconds until a chain's last model was as good as direct training, all counted."""
    last = chain.stages[-1]
    searched = _searched(chain, folder)
    reached = seconds_to_reach(chain_folder(folder, chain.method, chain.seed), last, goal)
    if reached is None:
        return None
    taught = chain_seconds(teachers) if METHODS.find(chain.method).taught else 0.0
    before = 0.0 if searched is None else searched.seconds
    return before + reached + chain_seconds(chain.stages[:-1]) + taught


def _searched(chain: ChainResults, folder: Path) -> Optional[Tuned]:
    """Return what the search for a chain's settings has found; None without one."""
    place = chain_folder(folder, chain.method, chain.seed) / SEARCHES
    return saved_tuned(place / chain.stages[-1].role)


def _rows(
    chains: Sequence[ChainResults], teachers: Sequence[StageResults], folder: Path
) -> list[ComparisonRow]:
    """Return a row per chain, of its last stage."""
    teacher = teachers[0]
    goals: dict[int, Optional[float]] = {}
    for chain in chains:
        training = chain.stages[-1].results.training
        if chain.method == CONTROL and training is not None:
            goals[chain.seed] = training.best_validation_mrr
    # No share of figures on another test split means anything.
    of_teacher = None if teacher.results.other_test else _test(teacher).mrr
    rows = []
    for chain in chains:
        last = chain.stages[-1]
        test, model, training = _test(last), last.results.model, last.results.training
        assert model is not None and training is not None
        searched = _searched(chain, folder)
        rows.append(
            ComparisonRow(
                method=chain.method,
                seed=chain.seed,
                model=model.name,
                dim=model.dim,
                floats_per_entity=model.floats_per_entity,
                bytes_per_entity=model.bytes_per_entity,
                parameters=model.parameters,
                mrr=test.mrr,
                hits_at_1=test.hits_at_1,
                hits_at_3=test.hits_at_3,
                hits_at_10=test.hits_at_10,
                valid_mrr=last.mrr("valid"),
                epochs=training.epochs,
                training_seconds=training.seconds,
                chain_seconds=chain_seconds(chain.stages),
                seconds_to_direct=_to_direct(chain, goals.get(chain.seed), teachers, folder),
                share_of_teacher=test.mrr / of_teacher if of_teacher else None,
                search_seconds=None if searched is None else searched.seconds,
                search_trials=None if searched is None else searched.trials,
            )
        )
    return rows


def _test(stage: StageResults) -> SplitFigures:
    if "test" not in stage.results.metrics:
        raise UserError(f"{stage.directory}: has no test figures, which a comparison needs")
    return stage.results.metrics["test"]
