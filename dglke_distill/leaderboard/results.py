"""What one seed left on disk, as far as the leaderboard asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from dglke_distill.report.fields import Fields, read_results

__all__ = ["FIGURES", "SPLITS", "SeedResult", "StageResult", "read_seed"]

FIGURES = ("mrr", "hits@1", "hits@3", "hits@10")
SPLITS = ("test", "valid")
Figures = Mapping[str, float]


@dataclass(frozen=True)
class StageResult:
    """A trained model of a chain.

    Attributes:
        role: teacher, student, or direct, which has no teacher.
        parameters: of the model. further_parameters: learned beside it and thrown away.
        metrics: split to its figures; a control that was not ranked has none.
    """

    name: str
    role: str
    model: str
    floats_per_entity: int
    bytes_per_entity: int
    parameters: int
    further_parameters: int
    seconds: float
    metrics: Mapping[str, Figures]


@dataclass(frozen=True)
class SeedResult:
    """A finished chain.

    Attributes:
        seed: of all its stages. directory: of the chain.
        method: what the chain is called. chain: its settings.
        stages: those that led to the deployed model, which is the last of them.
        controls: models that were trained beside.
        sides: split to side to figures of the deployed model.
        popularity: split to figures of the control that ignores the known entity.
        dataset: name, fingerprint and counts.
        evaluator: who judged.
        peak_memory_bytes: the most that the process held up to the end of the last stage.
        settings: of the deployed model. provenance: versions and hardware.
    """

    seed: int
    directory: Path
    method: str
    chain: Mapping[str, Any]
    stages: tuple[StageResult, ...]
    controls: tuple[StageResult, ...]
    sides: Mapping[str, Mapping[str, Figures]]
    popularity: Mapping[str, Figures]
    dataset: Mapping[str, Any]
    evaluator: str
    peak_memory_bytes: int
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def deployed(self) -> StageResult:
        """The model that the figures are of."""
        return self.stages[-1]

    @property
    def parameters(self) -> int:
        """Parameters of all stages together, as the leaderboard counts them."""
        return sum(stage.parameters + stage.further_parameters for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Training, validation and preparation of all stages."""
        return sum(stage.seconds for stage in self.stages)


def read_seed(directory: Path) -> SeedResult:
    """Read the ``results.json`` of a chain on an OGB dataset.

    Raises:
        UserError: it is missing or malformed, or its figures are not those of the given
            candidates of whole splits.
    """
    fields = read_results(directory / "results.json", "chain")
    entries = fields.objects("stages")
    taught = any(entry.text("role") == "student" for entry in entries)
    # Beside students, a model trained directly is a control; alone it is what the run is for.
    aside = [taught and entry.text("role").startswith("direct") for entry in entries]
    inside = [entry for entry, out in zip(entries, aside) if not out]
    last = inside[-1].object("results")
    metrics = last.object("metrics")
    judges = [_check_protocol(metrics.object(split)) for split in SPLITS]
    results = [entry.object("results") for entry in entries]
    peaks = [of.object("training").optional_number("peak_memory_bytes") or 0 for of in results]
    return SeedResult(
        seed=fields.integer("seed"),
        directory=directory,
        method=fields.text("method"),
        chain=fields.object("chain").tree,
        stages=tuple(_stage(entry) for entry in inside),
        controls=tuple(_stage(entry) for entry, out in zip(entries, aside) if out),
        sides={
            split: {
                side: _figures(metrics.object(split).object("by_side").object(side))
                for side in ("head", "tail")
            }
            for split in SPLITS
        },
        popularity={
            split: _with_sides(metrics.object(split).object("popularity_control"))
            for split in SPLITS
        },
        dataset=last.object("dataset").tree,
        evaluator=judges[0],
        peak_memory_bytes=int(max(peaks)),
        settings=last.object("config").tree,
        provenance=last.object("provenance").tree,
    )


def _check_protocol(figures: Fields) -> str:
    """Return the evaluator of figures that may stand on the leaderboard."""
    protocol = figures.object("protocol")
    if protocol.text("candidates") != "given" or protocol.tree.get("estimate") is not False:
        raise protocol.error("candidates", "does not say that whole splits met given candidates")
    return protocol.text("evaluator")


def _stage(entry: Fields) -> StageResult:
    results = entry.object("results")
    model, training = results.object("model"), results.object("training")
    metrics = results.object("metrics")
    seconds = ("seconds", "validation_seconds", "setup_seconds")
    return StageResult(
        name=entry.text("name"),
        role=entry.text("role"),
        model=model.text("name"),
        floats_per_entity=model.integer("floats_per_entity"),
        bytes_per_entity=model.integer("bytes_per_entity"),
        parameters=model.integer("parameters"),
        further_parameters=_optional_integer(training, "objective_parameters"),
        seconds=sum(training.optional_number(key) or 0.0 for key in seconds),
        metrics={split: _figures(metrics.object(split)) for split in SPLITS if split in metrics},
    )


def _optional_integer(fields: Fields, key: str) -> int:
    value: Optional[float] = fields.optional_number(key)
    return 0 if value is None else fields.integer(key)


def _figures(fields: Fields) -> dict[str, float]:
    return {key: fields.number(key) for key in FIGURES}


def _with_sides(fields: Fields) -> dict[str, float]:
    sides = fields.object("by_side")
    by_side = {f"{side} mrr": sides.object(side).number("mrr") for side in ("head", "tail")}
    return {**_figures(fields), **by_side}
