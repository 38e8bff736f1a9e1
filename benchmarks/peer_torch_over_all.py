"""Lacroix, Usunier and Obozinski's training loop in plain torch, timed on demand.

ComplEx with reciprocal relations, cross-entropy over all entities, N3, Adagrad over whole tables,
as in their kbc. Driven by ``train_throughput.py``: reads a number of steps a line from the standard
input, prints the seconds they took and the triples they stood for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import Tensor

Step = tuple[Tensor, Tensor, Tensor, Optional[Tensor]]


def triples_both_ways(triples: Tensor, batch: int, relations: int) -> Iterator[Step]:
    """Yield known entities, relations, and answers of ``batch`` triples asked from both sides."""
    while True:
        for rows in torch.randperm(len(triples)).split(batch):
            head, relation, tail = triples[rows].T
            known, answer = torch.cat([head, tail]), torch.cat([tail, head])
            yield known, torch.cat([relation, relation + relations]), answer, None


def distinct_queries(triples: Tensor, batch: int, relations: int) -> Iterator[Step]:
    """Yield ``batch`` distinct queries, all their answers, and the number of each one's."""
    head, relation, tail = triples.T
    known, answer = torch.cat([head, tail]), torch.cat([tail, head])
    asked = torch.cat([relation, relation + relations])
    keys, where = torch.unique(known * 2 * relations + asked, return_inverse=True)
    order = torch.argsort(where, stable=True)
    counts = torch.bincount(where)
    starts = counts.cumsum(0) - counts
    while True:
        for rows in torch.randperm(len(keys)).split(batch):
            answers = [answer[order[starts[i] : starts[i] + counts[i]]] for i in rows.tolist()]
            key = keys[rows]
            yield key // (2 * relations), key % (2 * relations), torch.cat(answers), counts[rows]


class Kbc:
    """The model and its optimiser."""

    def __init__(self, entities: int, relations: int, floats: int) -> None:
        """Begin as kbc does."""
        self.rank = floats // 2
        self.entities = torch.nn.Parameter(torch.randn(entities, floats) * 1e-3)
        self.relations = torch.nn.Parameter(torch.randn(2 * relations, floats) * 1e-3)
        self.optimizer = torch.optim.Adagrad([self.entities, self.relations], lr=0.1)

    def step(self, known: Tensor, asked: Tensor, answer: Tensor, counts: Optional[Tensor]) -> None:
        """Take one step."""
        rank = self.rank
        head, relation = self.entities[known], self.relations[asked]
        a, b, c, d = head[:, :rank], head[:, rank:], relation[:, :rank], relation[:, rank:]
        query = torch.cat([a * c - b * d, a * d + b * c], dim=1)
        scores = query @ self.entities.T
        found = self.entities[answer]
        each = torch.ones(len(known))
        if counts is None:
            loss = torch.nn.functional.cross_entropy(scores, answer)
        else:
            rows = torch.repeat_interleave(torch.arange(len(known)), counts)
            loss = -torch.log_softmax(scores, dim=1)[rows, answer].mean()
            each = counts.float()
        cubes = [(f[:, :rank] ** 2 + f[:, rank:] ** 2).sqrt() ** 3 for f in (head, relation, found)]
        penalty = (each @ cubes[0]).sum() + (each @ cubes[1]).sum() + cubes[2].sum()
        self.optimizer.zero_grad()
        (loss + 0.05 * penalty / len(answer)).backward()
        self.optimizer.step()


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--triples", type=Path, required=True)
    parser.add_argument("--entities", type=int, required=True)
    parser.add_argument("--relations", type=int, required=True)
    parser.add_argument("--floats", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--mode", choices=["one_vs_all", "k_vs_all"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    triples = torch.from_numpy(np.load(arguments.triples))
    make = triples_both_ways if arguments.mode == "one_vs_all" else distinct_queries
    steps = make(triples, arguments.batch_size, arguments.relations)
    model = Kbc(arguments.entities, arguments.relations, arguments.floats)
    for line in sys.stdin:
        if line.strip() == "stop":
            break
        count = 0
        begun = time.perf_counter()
        for _ in range(int(line)):
            step = next(steps)
            model.step(*step)
            # Asked from both sides, a triple has two answers.
            count += len(step[2]) if step[3] is not None else len(step[2]) // 2
        seconds = time.perf_counter() - begun
        print(json.dumps({"seconds": seconds, "triples": count}), flush=True)


if __name__ == "__main__":
    main()
