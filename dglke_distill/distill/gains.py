"""By what share a model is better than another, with an interval of 95 %.

Both models have answered the same questions, so what is resampled are the test triples, each with
both its questions and both models' reciprocal ranks (paired bootstrap, percentiles; Efron,
Tibshirani 1993, "An introduction to the bootstrap"). Over several seeds, each resample draws as
many seeds as there are, with replacement, and then the triples, the same ones for every seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.runs.ranks import RANKS_FILE, read_reciprocal_ranks

__all__ = ["LEVEL", "Gain", "gain_between", "gain_of", "gains_over", "kept_ranks", "percent_text"]

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
        low, high: ends of the interval.
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
    ours = np.stack([ranks.mean(1) for ranks in student])
    theirs = np.stack([ranks.mean(1) for ranks in control])
    value = float(ours.mean() / theirs.mean() - 1)
    seeds, triples = ours.shape
    if triples < 2:  # nothing to resample
        return Gain(value, -math.inf, math.inf, 2 * triples, seeds)
    draw = np.random.default_rng((seed, seeds))

    def shares(rows: NDArray[np.int64], axis: int = -1) -> Ranks:
        means = ours[:, rows].mean(axis), theirs[:, rows].mean(axis)  # (seeds, resamples)
        if seeds > 1:
            drawn = draw.integers(seeds, size=means[0].shape)
            means = (
                np.take_along_axis(means[0], drawn, 0),
                np.take_along_axis(means[1], drawn, 0),
            )
        return np.asarray(means[0].mean(0) / means[1].mean(0) - 1)

    from scipy.stats import bootstrap

    numbers = seeds * triples
    found = bootstrap(
        (np.arange(triples),),
        shares,
        n_resamples=max(400, min(_RESAMPLES, _MOST_NUMBERS // numbers)),
        batch=max(1, _NUMBERS_AT_ONCE // numbers),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Gain(value, float(found.low), float(found.high), 2 * triples, seeds)


@lru_cache(maxsize=4096)
def gain_of(student: tuple[Path, ...], control: tuple[Path, ...], seed: int = 0) -> Gain:
    """Return ``gain_between`` of saved ranks, a file per seed; files of finished stages stay.

    Raises:
        UserError: a file is damaged, or the two were not asked the same questions.
    """
    read = read_reciprocal_ranks
    return gain_between([read(path) for path in student], [read(path) for path in control], seed)


def percent_text(value: float) -> str:
    """Return a share as a number of percent, such as ``3.1`` or ``-0.4``; never ``-0.0``."""
    return f"{100 * value + 0.0:.1f}".replace("-0.0", "0.0")


def gains_over(control: str, files: Mapping[str, Mapping[int, Path]]) -> dict[str, dict[str, Any]]:
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
            ends = (gain.low, gain.high) if math.isfinite(gain.low) else (None, None)
            found[method] = {
                "gain": gain.value,
                "low": ends[0],
                "high": ends[1],
                "seeds": gain.seeds,
                "questions": gain.questions,
            }
    return found


def kept_ranks(chains: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, dict[int, Path]]:
    """Return the files of the single ranks of chains' last models, by method and seed.

    Args:
        chains: what their ``results.json`` hold.
        folder: with a directory ``METHOD-seedN`` for each.
    """
    files: dict[str, dict[int, Path]] = {}
    for chain in chains:
        place = folder / f"{chain['method']}-seed{chain['seed']}"
        path = place / chain["stages"][-1]["directory"] / RANKS_FILE
        if path.is_file():
            files.setdefault(chain["method"], {})[chain["seed"]] = path
    return files
