"""The single ranks of a test split, kept so that models can be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state, save_state
from dglke_distill.evaluate import RankingResult

RANKS_FILE = "test-ranks.safetensors"
"""Ranks of the test triples' heads and tails, in the order of the split."""


def save_ranks(path: Path, result: RankingResult) -> None:
    """Write the ranks of a split, so that models can be compared question by question.

    Args:
        path: the file.
        result: of the ranking; ranks are multiples of a half, exact in float32 below 2^23.
    """
    sides = {"head": result.head_ranks, "tail": result.tail_ranks}
    tensors = {side: torch.from_numpy(ranks.astype(np.float32)) for side, ranks in sides.items()}
    save_state(path, tensors, {"triples": len(result.head_ranks)})


def read_reciprocal_ranks(path: Path) -> NDArray[np.float64]:
    """Return 1 / rank of what ``save_ranks`` wrote: (triples, 2), heads and tails.

    Raises:
        UserError: the file is missing, damaged, or holds no ranks.
    """
    tensors, _ = load_state(path)
    sides = [tensors.get(side) for side in ("head", "tail")]
    found = [side.double().numpy() for side in sides if side is not None and side.dim() == 1]
    if len(found) != 2 or len(found[0]) != len(found[1]) or not len(found[0]):
        raise UserError(f"{path}: holds no ranks of a split; restore the file")
    ranks = np.stack(found, axis=1)
    if not (np.isfinite(ranks).all() and (ranks >= 1).all()):
        raise UserError(f"{path}: holds ranks below 1 or not finite; restore the file")
    return np.asarray(1.0 / ranks, np.float64)
