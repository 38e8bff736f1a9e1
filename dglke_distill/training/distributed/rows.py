"""Tables on DGL's servers whose rows are neither entities nor facts: large tables of relations.

DGL deals the rows of nodes and of edges to machines, and of nothing else. The policy here deals any
number of rows evenly; its name says all that a server must know of it.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from dglke_distill.config import ModelConfig
from dglke_distill.models import build_score_function

__all__ = [
    "SHARDED_BYTES",
    "policy_of_rows",
    "relation_bytes",
    "relations_are_dealt",
    "teach_server",
]

SHARDED_BYTES = 16 << 20
"""From this size on a table of relations lies in parts: each step would send all its gradients."""

_NAME = re.compile(r"rows([0-9]+)")


class _Book:
    """Which machine has which of some rows; what DGL asks of a partition book."""

    def __init__(self, machine: int, machines: int, rows: int) -> None:
        self.partid, self._rows = machine, rows
        self._ends = torch.tensor([rows * part // machines for part in range(1, machines + 1)])
        self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), self._ends[:-1]])

    def num_partitions(self) -> int:
        return len(self._ends)

    def partid2nids(self, part: int, kind: str = "") -> Tensor:
        return torch.arange(int(self._starts[part]), int(self._ends[part]))

    def nid2partid(self, ids: Tensor, kind: str = "") -> Tensor:
        return torch.searchsorted(self._ends, ids, right=True)

    def nid2localnid(self, ids: Tensor, part: int, kind: str = "") -> Tensor:
        return ids - self._starts[part]

    def _num_nodes(self, kind: str = "") -> int:
        return self._rows


def policy_of_rows(machine: int, machines: int, rows: int) -> Any:
    """Return the policy of a table, which deals its rows evenly.

    Args:
        machine: of whoever asks.
        machines: how many there are, at most as many as rows.
        rows: of the table.
    """
    book: Any = import_module("dgl.distributed.graph_partition_book")
    return book.PartitionPolicy(f"node~rows{rows}", _Book(machine, machines, rows))


def teach_server(machine: int, machines: int) -> None:
    """Have this process, a server, know such policies by their names.

    Args:
        machine: which one it serves.
        machines: how many there are.
    """
    store: Any = import_module("dgl.distributed.kvstore")
    known = store.KVServer.find_policy

    def find_policy(server: Any, name: str) -> Any:
        found = _NAME.fullmatch(name.partition("~")[2])
        return known(server, name) if found is None else policy_of_rows(
            machine, machines, int(found[1])
        )  # fmt: skip

    store.KVServer.find_policy = find_policy


def relation_bytes(model: ModelConfig, relations: int) -> int:
    """Return the size of a table of relations.

    Args:
        model: the settings.
        relations: of the dataset, reciprocal ones not counted.
    """
    return 4 * build_score_function(model).relation_floats * relations * (1 + model.reciprocal)


def relations_are_dealt(size: int, rows: int, machines: int) -> bool:
    """Return whether a table of relations lies in parts, else each trainer has a copy.

    Args:
        size: in bytes.
        rows: how many it has.
        machines: how many there are.
    """
    return size >= SHARDED_BYTES and rows >= machines
