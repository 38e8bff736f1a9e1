"""One contestant of ``ogb_scale.py``, in a process of its own; prints its figures as JSON.

``ours`` is this package: the DGL graph, its sampler and loader, row-sparse row-wise Adagrad.

``official`` is the training loop of OGB's own example for ogbl-wikikg2, written anew from its
published settings in plain torch: a private set of negatives for each positive, drawn uniformly,
of one side, the sides alternating; self-adversarial loss, subsampling weights; L3 penalty on the
whole tables for ComplEx; a dense gradient of the whole table and Adam on all of it at every step.
Where the settings leave a choice it gets the faster one: batches are drawn whole instead of item
by item, Adam is torch's fused one, which needs no temporaries, and a step gathers its entities
once, so that it has one dense gradient instead of one for each part of the loss.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dglke_distill.base import runtime
from dglke_distill.data.ogb import OgbDataset, load_ogb

MARGIN = {"TransE": 30.0, "ComplEx": 500.0}
RATE = {"TransE": 1e-4, "ComplEx": 1e-3}
PENALTY = 2e-6


class Official(nn.Module):
    """Tables, scores and losses of the official example."""

    def __init__(self, dataset: OgbDataset, options: argparse.Namespace) -> None:
        """Allocate the tables and count how often queries occur."""
        super().__init__()
        self.name, self.batch, self.negatives = options.model, options.batch_size, options.negatives
        self.margin = MARGIN[self.name]
        bound = (self.margin + 2.0) / options.dim
        self.entity = nn.Parameter(torch.empty(dataset.num_entities, options.dim))
        self.relation = nn.Parameter(torch.empty(dataset.num_relations, options.dim))
        nn.init.uniform_(self.entity, -bound, bound)
        nn.init.uniform_(self.relation, -bound, bound)
        train = dataset.train
        self.columns = [
            torch.from_numpy(column.astype(np.int64))
            for column in (train.head, train.relation, train.tail)
        ]
        head, relation, tail = self.columns
        counts = torch.full((len(head),), 8.0)
        for entity, offset in ((head, 0), (tail, dataset.num_relations)):
            key = entity * (2 * dataset.num_relations) + relation + offset
            _, inverse, count = torch.unique(key, return_inverse=True, return_counts=True)
            counts += count[inverse] - 1
        self.weight = counts.rsqrt()
        self.optimizer = torch.optim.Adam(self.parameters(), lr=RATE[self.name], fused=True)

    def score(self, head: Tensor, relation: Tensor, tail: Tensor, side: str) -> Tensor:
        """Score (b, 1, d) or (b, n, d) vectors; returns (b, n)."""
        if self.name == "TransE":
            if side == "head":
                difference = head + (relation - tail)
            else:
                difference = (head + relation) - tail
            return self.margin - difference.norm(p=1, dim=2)
        (a, b), (c, d), (e, f) = (v.chunk(2, dim=2) for v in (head, relation, tail))
        if side == "head":
            return ((c * e + d * f) * a + (c * f - d * e) * b).sum(dim=2)
        return ((a * c - b * d) * e + (a * d + b * c) * f).sum(dim=2)

    def step(self, rows: Tensor, side: str) -> float:
        """Take one step and return the loss before it."""
        self.optimizer.zero_grad()
        head, relation, tail = (column[rows] for column in self.columns)
        drawn = torch.randint(len(self.entity), (len(rows), self.negatives))

        ids = torch.cat([head[:, None], tail[:, None], drawn], dim=1)
        met = self.entity.index_select(0, ids.reshape(-1)).view(*ids.shape, self.dim)
        first, last, corrupt = met.split([1, 1, self.negatives], dim=1)
        related = self.relation.index_select(0, relation)[:, None]
        wrong = (
            self.score(corrupt, related, last, side)
            if side == "head"
            else self.score(first, related, corrupt, side)
        )
        share = F.softmax(wrong, dim=1).detach()
        negative = (share * F.logsigmoid(-wrong)).sum(dim=1)
        positive = F.logsigmoid(self.score(first, related, last, "tail")).squeeze(1)
        weight = self.weight[rows]
        loss = -((weight * positive).sum() + (weight * negative).sum()) / (2 * weight.sum())
        if self.name == "ComplEx":
            loss = loss + PENALTY * (self.entity.norm(p=3) ** 3 + self.relation.norm(p=3) ** 3)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    @property
    def dim(self) -> int:
        """Floats per entity."""
        return self.entity.shape[1]

    def run(self, steps: int) -> Iterator[float]:
        """Take steps and yield their losses."""
        for number in range(steps):
            rows = torch.randint(len(self.weight), (self.batch,))
            yield self.step(rows, "head" if number % 2 == 0 else "tail")


class Ours:
    """The same model trained by this package."""

    def __init__(self, dataset: OgbDataset, options: argparse.Namespace) -> None:
        """Build graph, sampler, loader, model and optimiser."""
        from dglke_distill.config import Config
        from dglke_distill.data.graph import build_graph
        from dglke_distill.models.coded import build_configured
        from dglke_distill.runs.workspace import (
            Workspace,
            build_loader,
            build_objective,
            build_optimizer,
        )

        runtime.tune_allocator()
        tree: dict[str, Any] = {
            "model": {"name": options.model, "dim": options.dim},
            "negatives": {"count": options.negatives, "sharing": options.sharing},
            "loss": {"name": "self_adversarial", "options": {"margin": MARGIN[options.model]}},
            "optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.01},
            "training": {"batch_size": options.batch_size, "subsampling": True},
        }
        if options.model == "ComplEx":
            tree["regularizer"] = {"name": "n3", "weight": PENALTY}
        if options.storage is not None:
            tree["training"]["storage"] = options.storage
        config = Config.from_mapping(tree, "benchmark")
        graph = build_graph(dataset.train, dataset.num_entities)
        workspace = Workspace(dataset, graph, torch.device("cpu"))
        self.model = build_configured(config, dataset.num_entities, dataset.num_relations)
        self.model.set_row_sparse(entities=True, relations=True)
        self.model.reset(0)
        self.loader = build_loader(config, workspace, self.model)
        self.objective = build_objective(config, self.model)
        self.optimizer = build_optimizer(config.optimizer, self.model)

    def run(self, steps: int) -> Iterator[float]:
        """Take steps and yield their losses."""
        from dglke_distill.training.loop import step

        for epoch in range(steps):
            for batch in self.loader.epoch(epoch):
                losses = step(self.model, batch, self.objective, self.optimizer)
                yield float(losses.total)


def main() -> None:
    """Train for some steps and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("who", choices=("ours", "official"))
    parser.add_argument("root", type=Path, help="folder that holds ogbl_wikikg2/")
    parser.add_argument("--model", choices=tuple(MARGIN), required=True)
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--negatives", type=int, required=True)
    parser.add_argument("--sharing", choices=("private", "chunk"), default="private")
    parser.add_argument("--storage", choices=("bfloat16", "float16"))
    parser.add_argument("--steps", type=int, required=True, help="measured, in ten blocks")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    from dglke_distill.kernels import set_num_threads

    set_num_threads(options.threads)
    torch.manual_seed(0)
    begun = time.perf_counter()
    dataset = load_ogb("ogbl-wikikg2", options.root)
    opened = time.perf_counter() - begun
    made: Any = Official if options.who == "official" else Ours
    contestant = made(dataset, options)
    built = time.perf_counter() - begun - opened
    losses = contestant.run(options.warmup + options.steps)
    for _ in range(options.warmup):
        first = next(losses)
    blocks, size = [], max(1, options.steps // 10)
    for _ in range(max(1, options.steps // size)):
        before = time.perf_counter()
        for _ in range(size):
            last = next(losses)
        blocks.append((time.perf_counter() - before) / size)
    print(
        json.dumps(
            {
                "seconds_per_step": statistics.median(blocks),
                "peak_bytes": runtime.peak_memory_bytes(),
                "open_seconds": opened,
                "build_seconds": built,
                "first_loss": first,
                "last_loss": last,
            }
        )
    )


if __name__ == "__main__":
    main()
