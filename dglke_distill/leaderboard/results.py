"""What one seed left on disk, as far as the leaderboard asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dglke_distill.artifacts.results import (
    ChainResults,
    DatasetDescription,
    Figures,
    ModelSizes,
    Provenance,
    SplitFigures,
    StageResults,
    TrainingResults,
)
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_chain_results
from dglke_distill.artifacts.results_node import FIX
from dglke_distill.base.errors import UserError

FIGURES = ("mrr", "hits@1", "hits@3", "hits@10")
SPLITS = ("test", "valid")
SIDES = ("head", "tail")
FigureTree = dict[str, float]


@dataclass(frozen=True)
class SeedResult:
    """A finished chain: its results, and what of them stands on the leaderboard.

    Attributes:
        directory: of the chain.
        chain: its results.
        stages: those that led to the deployed model, which is the last of them.
        controls: models that were trained beside.
        sides: split to side to figures of the deployed model.
        popularity: split to figures of the control that ignores the known entity.
        dataset: name, fingerprint and counts.
        evaluator: who judged.
        settings: of the deployed model.
        provenance: versions and hardware.
    """

    directory: Path
    chain: ChainResults
    stages: tuple[StageResults, ...]
    controls: tuple[StageResults, ...]
    sides: Mapping[str, Mapping[str, FigureTree]]
    popularity: Mapping[str, FigureTree]
    dataset: DatasetDescription
    evaluator: str
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def deployed(self) -> StageResults:
        """The model that the figures are of."""
        return self.stages[-1]

    @property
    def parameters(self) -> int:
        """Parameters of all stages together, as the leaderboard counts them."""
        return sum(sizes_of(each).parameters + extra_parameters(each) for each in self.stages)

    @property
    def seconds(self) -> float:
        """Training, validation and preparation of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_memory_bytes(self) -> int:
        """The most that the process held up to the end of the last stage."""
        trainings = [stage.results.training for stage in (*self.stages, *self.controls)]
        return max(of.peak_memory_bytes or 0 for of in trainings if of is not None)


def sizes_of(stage: StageResults) -> ModelSizes:
    """Return the sizes of a stage that ``read_seed`` has looked at."""
    assert stage.results.model is not None
    return stage.results.model


def extra_parameters(stage: StageResults) -> int:
    """Return how many numbers a stage learned beside its model and threw away."""
    training = stage.results.training
    return 0 if training is None else training.objective_parameters


def figures_of(stage: StageResults, split: str) -> FigureTree:
    """Return the figures of a ranked split."""
    return _figures(stage.results.metrics[split])


def read_seed(directory: Path) -> SeedResult:
    """Read the ``results.json`` of a chain on an OGB dataset.

    Raises:
        UserError: it is missing or malformed, or its figures are not those of the given
            candidates of whole splits.
    """
    path = directory / RESULTS_FILE
    chain = read_chain_results(path)
    taught = any(stage.role == "student" for stage in chain.stages)
    # Beside students, a model trained directly is a control; alone it is what the run is for.
    aside = [taught and stage.role.startswith("direct") for stage in chain.stages]
    inside = [stage for stage, out in zip(chain.stages, aside) if not out]
    last = inside[-1].results
    split_of = {split: _given(last, split, path) for split in SPLITS}
    if last.dataset is None or last.provenance is None or last.config is None:
        raise _fault(path, f"dataset, provenance or config of {inside[-1].name} is missing")
    for stage in chain.stages:
        if stage.results.model is None or stage.results.training is None:
            raise _fault(path, f"model or training of {stage.name} is missing")
    return SeedResult(
        directory=directory,
        chain=chain,
        stages=tuple(inside),
        controls=tuple(stage for stage, out in zip(chain.stages, aside) if out),
        sides={
            split: {side: _figures(figures.by_side[side]) for side in SIDES}
            for split, (figures, _, _) in split_of.items()
        },
        popularity={split: _with_sides(control) for split, (_, control, _) in split_of.items()},
        dataset=last.dataset,
        evaluator=split_of[SPLITS[0]][2],
        settings=last.config,
        provenance=last.provenance,
    )


def _fault(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; {FIX}")


def _given(
    results: TrainingResults, split: str, path: Path
) -> tuple[SplitFigures, SplitFigures, str]:
    """Return figures that may stand on the leaderboard, their control and their evaluator."""
    figures = results.metrics.get(split)
    if figures is None:
        raise _fault(path, f"the last model's metrics.{split} is missing")
    protocol, control = figures.protocol, figures.popularity_control
    if protocol is None or protocol.candidates != "given" or protocol.estimate:
        raise _fault(path, f"metrics.{split} does not say that whole splits met given candidates")
    if protocol.evaluator is None or control is None:
        raise _fault(path, f"protocol.evaluator or popularity_control of {split} is missing")
    for of in (figures, control):
        if not set(SIDES) <= set(of.by_side):
            raise _fault(path, f"by_side of {split} is missing")
    return figures, control, protocol.evaluator


def _figures(of: Figures) -> FigureTree:
    return {key: getattr(of, key.replace("@", "_at_")) for key in FIGURES}


def _with_sides(of: SplitFigures) -> FigureTree:
    return {**_figures(of), **{f"{side} mrr": of.by_side[side].mrr for side in SIDES}}
