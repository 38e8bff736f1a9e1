"""A small graph for chains: facts that a rotation explains, steps on a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dglke_distill.distill.chain_config import ChainConfig


def write_clock(folder: Path, hours: int = 30) -> Path:
    """Write the splits of a graph with the relations plus1, plus2, plus3 and plus5."""
    rng = np.random.default_rng(0)
    facts = [(i, f"plus{k}", (i + k) % hours) for i in range(hours) for k in (1, 2, 3, 5)]
    lines = [f"n{facts[i][0]}\t{facts[i][1]}\tn{facts[i][2]}\n" for i in rng.permutation(4 * hours)]
    folder.mkdir(exist_ok=True)
    for split, part in (("train", lines[20:]), ("valid", lines[10:20]), ("test", lines[:10])):
        (folder / f"{split}.txt").write_text("".join(part))
    return folder


def clock_chain(folder: Path, **changes: Any) -> ChainConfig:
    """A chain of TransE models on it, a second long."""
    tree: dict[str, Any] = {
        "data": {"dataset": str(folder)},
        "dims": [16, 8, 4],
        "shared": {
            "model": {"name": "TransE"},
            "negatives": {"count": 8},
            "loss": {"options": {"margin": 3.0}},
            "training": {"epochs": 3, "batch_size": 32, "evaluate_every": 2, "threads": 1},
        },
        **changes,
    }
    return ChainConfig.from_mapping(tree, "test")
