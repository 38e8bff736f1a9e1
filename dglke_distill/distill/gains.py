"""By what share a model is better than another, with an interval of 95 %.

Both models have answered the same questions, so what is resampled are the test triples, each with
both its questions and both models' reciprocal ranks (paired bootstrap, percentiles; Efron,
Tibshirani 1993, "An introduction to the bootstrap"). Of several seeds the means are resampled, and
the seeds' own part is added in quadrature: seeds are few, so it is Student's t with the degrees of
freedom of Welch 1947, "The generalization of Student's problem", to first order in the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.artifacts.results import (
    Against,
    ChainResults,
    EvaluationResults,
    MethodGain,
)
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import percent_text
from dglke_distill.data.triples import Dataset
from dglke_distill.evaluate import RankingResult
from dglke_distill.runs.ranks import RANKS_FILE, read_reciprocal_ranks
from dglke_distill.runs.train_run import rank_loaded

LEVEL = 0.95
_RESAMPLES = 2000
_NUMBERS_AT_ONCE = 1 << 21
_MOST_NUMBERS = 1 << 28
"""Resampled numbers in all; a larger split gets fewer resamples, but no fewer than 400."""

Ranks = NDArray[np.float64]


class Gain(NamedTuple):
    """By what share the MRR of a model is above another's, with an interval of 95 %.

    Attributes:
        value: of all questions of all seeds.
        low: lower end of the interval.
        high: upper end of the interval.
        questions: that the test split asks, two per triple.
        seeds: number of trainings of both models.
    """

    value: float
    low: float
    high: float
    questions: int
    seeds: int


def gain_between(student: Sequence[Ranks], control: Sequence[Ranks], seed: int = 0) -> Gain:
    """Return by what share a student's MRR is above its control's, and how sure that is.

    Args:
        student: reciprocal ranks (triples, 2) of each seed's model.
        control: those of the control, in the same order.
        seed: of the resampling.

    Raises:
        UserError: the two were not asked the same questions.
    """
    shapes = {ranks.shape for ranks in (*student, *control)}
    if len(shapes) != 1 or len(student) != len(control):
        raise UserError(
            "student and control were ranked on test splits of different sizes; run the chain "
            "anew with another --out"
        )
    by_seed = [np.stack([ranks.mean(1) for ranks in each]) for each in (student, control)]
    seeds, triples = by_seed[0].shape
    ours, theirs = (each.mean(0) for each in by_seed)
    value = float(ours.mean() / theirs.mean() - 1)
    if triples < 2:  # nothing to resample
        return Gain(value, -math.inf, math.inf, 2 * triples, seeds)

    def shares(rows: NDArray[np.int64], axis: int = -1) -> Ranks:
        return np.asarray(ours[rows].mean(axis) / theirs[rows].mean(axis) - 1)

    from scipy.stats import bootstrap

    found = bootstrap(
        (np.arange(triples),),
        shares,
        n_resamples=max(400, min(_RESAMPLES, _MOST_NUMBERS // triples)),
        batch=max(1, _NUMBERS_AT_ONCE // triples),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    more = _of_seeds(*(each.mean(1) for each in by_seed))
    low = value - math.hypot(value - float(found.low), more)
    high = value + math.hypot(value - float(found.high), more)
    return Gain(value, low, high, 2 * triples, seeds)


def _of_seeds(ours: Ranks, theirs: Ranks) -> float:
    """Return half the interval of a share that is due to seeds, by the MRR of each; 0 of one."""
    seeds = len(ours)
    if seeds < 2:
        return 0.0
    parts = [float(each.var(ddof=1)) / seeds / float(each.mean()) ** 2 for each in (ours, theirs)]
    total = sum(parts)
    if not total:
        return 0.0
    from scipy.stats import t

    degrees = (seeds - 1) * total**2 / sum(part**2 for part in parts)
    spread = float(t.ppf((1 + LEVEL) / 2, degrees)) * math.sqrt(total)
    return spread * float(ours.mean() / theirs.mean())


@lru_cache(maxsize=4096)
def gain_of(student: tuple[Path, ...], control: tuple[Path, ...], seed: int = 0) -> Gain:
    """Return ``gain_between`` of saved ranks, a file per seed; files of finished stages stay.

    Raises:
        UserError: a file is damaged, or the two were not asked the same questions.
    """
    read = read_reciprocal_ranks
    return gain_between([read(path) for path in student], [read(path) for path in control], seed)


def _kept(gain: Gain) -> MethodGain:
    """Return a gain as results keep it, where an end that cannot be said is None."""
    low, high = (gain.low, gain.high) if math.isfinite(gain.low) else (None, None)
    return MethodGain(
        gain=gain.value, low=low, high=high, seeds=gain.seeds, questions=gain.questions
    )


def ranked(
    models: Sequence[tuple[LoadedModel, str]],
    split: str,
    *,
    dataset: Optional[Dataset] = None,
    **asked: Any,
) -> EvaluationResults:
    """Rank a split with a model; with a second one, also say what the first gains over it.

    Args:
        models: one or two, each with what to call it in messages.
        split: ``train``, ``valid`` or ``test``.
        dataset: what to rank, where the caller has loaded it; else each model's own.
        asked: further settings of both: see ``runs.train_run.rank_loaded``.

    Returns:
        The first model's figures; the second's and the gain are its ``against``.

    Raises:
        UserError: a model has no dataset, or the two were trained on different triples, or are the
            same.
    """
    if len(models) > 1 and _same(models[0][0], models[1][0]):
        raise UserError(f"--against {models[1][1]}: is the model itself; name another one")
    found: list[EvaluationResults] = []
    ranks: list[Ranks] = []

    def keep(result: RankingResult) -> None:
        ranks.append(1.0 / np.stack([result.head_ranks, result.tail_ranks], axis=1))

    counts = {model.identity.counts for model, _ in models} - {None}
    if len(counts) > 1 and not asked.get("allow_other_data"):
        raise UserError(_other_triples(models))
    for model, name in models:
        stated = model.identity.fingerprint
        if found and not asked.get("allow_other_data"):
            assert dataset is not None
            if stated is not None and not dataset.has_fingerprint(stated):
                raise UserError(_other_triples(models))
        results, dataset = rank_loaded(
            model, split, name=name, dataset=dataset, ranked=keep, **asked
        )
        found.append(results)
    if len(found) > 1:
        gain = _kept(gain_between(ranks[:1], ranks[1:]))
        other = Against(model=models[1][1], metrics=found[1], gain=gain)
        warnings = list(dict.fromkeys([*found[0].warnings, *found[1].warnings]))
        return found[0].model_copy(update={"against": other, "warnings": warnings})
    return found[0]


def _same(ours: LoadedModel, theirs: LoadedModel) -> bool:
    """Return whether two models score alike, being one: by their settings and all weights."""
    weights, others = ours.model.state_dict(), theirs.model.state_dict()
    return ours.config.model == theirs.config.model and all(
        name in others and weight.dtype == others[name].dtype and weight.equal(others[name].cpu())
        for name, weight in ((name, weight.cpu()) for name, weight in weights.items())
    )


def _other_triples(models: Sequence[tuple[LoadedModel, str]]) -> str:
    """Return what to say where two models do not answer the same questions."""
    return (
        f"{models[1][1]}: was trained on other triples than {models[0][1]}, so their questions are "
        "not the same; name two models of one dataset"
    )


def gain_sentence(gain: MethodGain) -> str:
    """Return in words what a model of one seed gains over another on the same questions."""
    asked = f"{gain.questions:,} questions; what other seeds would change is not in it"
    if gain.low is None or gain.high is None:
        return f"MRR differs by {percent_text(gain.gain)} %; too few questions for an interval"
    ends, value = f"[{percent_text(gain.low)}, {percent_text(gain.high)}]", gain.gain
    if gain.low > 0:
        said = f"better by {percent_text(value)} % {ends}"
    elif gain.high < 0:
        ends = f"[{percent_text(-gain.high)}, {percent_text(-gain.low)}]"
        said = f"worse by {percent_text(-value)} % {ends}"
    else:
        said = f"not distinguishable: {percent_text(value)} % {ends}"
    return f"{said} (interval of 95 % over {asked})"


def verdict_text(
    models: Sequence[tuple[LoadedModel, str]],
    **asked: Any,
) -> str:
    """Rank the test split with a model and another one; say for a card what the first gains.

    Args:
        models: the two, each with what to call it in messages.
        asked: as in ``ranked``.

    Raises:
        UserError: as in ``ranked``.
    """
    against = ranked(models, "test", allow_other_data=None, **asked).against
    assert against is not None
    other = models[1][0]
    figures = other.figures
    how = figures.distillation.method if figures.distillation else "direct"
    of = "trained directly" if how == "direct" else f"distilled by {how}"
    return (
        f"against {other.config.model.name} of {other.model.floats_per_entity} floats, {of}, "
        f"test MRR {against.metrics.mrr:.4f}: {gain_sentence(against.gain)}"
    )


def gains_over(control: str, files: Mapping[str, Mapping[int, Path]]) -> dict[str, MethodGain]:
    """Return what each method gains over one of them, over the seeds that both have.

    Args:
        control: that one.
        files: of single ranks, by method and seed.
    """
    found = {}
    theirs = files.get(control, {})
    for method, ours in files.items():
        seeds = [seed for seed in ours if seed in theirs]
        if method != control and seeds:
            gain = gain_of(tuple(ours[s] for s in seeds), tuple(theirs[s] for s in seeds))
            found[method] = _kept(gain)
    return found


def chain_folder(folder: Path, method: str, seed: int) -> Path:
    """Return where a comparison keeps the chain of a method and seed.

    Args:
        folder: of all its chains.
        method: name of the distillation method.
        seed: of its students.
    """
    return folder / f"{method}-seed{seed}"


def saved_ranks(chains: Sequence[ChainResults], folder: Path) -> dict[str, dict[int, Path]]:
    """Return the files of the single ranks of chains' last models, by method and seed.

    Args:
        chains: their results.
        folder: with a directory ``METHOD-seedN`` for each.
    """
    files: dict[str, dict[int, Path]] = {}
    for chain in chains:
        place = chain_folder(folder, chain.method, chain.seed)
        path = place / chain.stages[-1].directory / RANKS_FILE
        if path.is_file():
            files.setdefault(chain.method, {})[chain.seed] = path
    return files
