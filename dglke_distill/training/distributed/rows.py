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

SHARDED_BYTES = 16 << 20
"""From this size on a table of relations lies in parts: each step would send all its gradients."""

_NAME = re.compile(r"rows([0-9]+)")


def even_ranges(rows: int, machines: int) -> tuple[tuple[int, int], ...]:
    """Return the first and one past the last row of each machine.

    Args:
        rows: how many there are.
        machines: that they are dealt to.
    """
    ends = [rows * part // machines for part in range(machines + 1)]
    return tuple(zip(ends, ends[1:]))


class Book:
    """Which machine has which of some rows; what DGL asks of a partition book of nodes.

    Args:
        machine: of whoever asks.
        machines: how many there are.
        rows: how many.
    """

    def __init__(self, machine: int, machines: int, rows: int) -> None:
        """Deal them."""
        self.partid, self._rows = machine, rows
        self._ranges = even_ranges(rows, machines)
        self._ends = torch.tensor([last for _, last in self._ranges])

    def num_partitions(self) -> int:
        """Return the number of machines."""
        return len(self._ranges)

    def partid2nids(self, part: int, kind: str = "") -> Tensor:
        """Return a machine's rows, int64."""
        return torch.arange(*self._ranges[part])

    def nid2partid(self, ids: Tensor, kind: str = "") -> Tensor:
        """Return the machine of each row (n,) int64."""
        return torch.searchsorted(self._ends, ids, right=True)

    def nid2localnid(self, ids: Tensor, part: int, kind: str = "") -> Tensor:
        """Return the places (n,) of rows on their machine."""
        return ids - self._ranges[part][0]

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
    return book.PartitionPolicy(f"node~rows{rows}", Book(machine, machines, rows))


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
