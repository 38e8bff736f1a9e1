"""METIS in a process of its own, so that the same graph is cut the same way each time.

    python -m dglke_distill.data.metis PARTS BALANCED ENTITIES < edges > parts

Pitfall: DGL's METIS reads memory that nobody has written. In a process that has run for a while it
cuts the same graph differently from call to call; in a fresh one, whose allocator fills what it
hands out, always alike. If METIS crashes, it takes no other work with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError

_FILLED = "glibc.malloc.perturb=170:glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"
"""Every block is filled when it is handed out, none is handed out behind that (mallopt(3))."""


def assign_by_metis(graph: Any, parts: int, *, balance_edges: bool, **others: Any) -> Tensor:
    """Return the part of each entity, int64 (entities,): DGL's function of nearly that name.

    METIS meets each pair of entities once. Pitfall: with two facts between the same entities DGL
    writes beyond the arrays that it gives to METIS.

    Args:
        graph: homogeneous, without types of entities.
        parts: how many.
        balance_edges: whether parts shall have equally many facts.
        others: what DGL passes besides; its defaults alone are known here.

    Raises:
        UserError: METIS failed.
    """
    simple = load_dgl().to_simple(graph, return_counts=None)
    edges = torch.stack(simple.edges()).numpy()
    words = [str(parts), str(int(balance_edges)), str(graph.num_nodes())]
    environment = {key: value for key, value in os.environ.items() if key[:7] != "MALLOC_"}
    environment.update(GLIBC_TUNABLES=_FILLED, OMP_NUM_THREADS="1")
    # As bytes: of a view of rows subprocess counts the rows, and cuts off what one write leaves.
    done = subprocess.run(
        [sys.executable, "-m", __name__, *words], input=edges.data.cast("B"), capture_output=True,
        env=environment,
    )  # fmt: skip
    found: NDArray[np.int64] = np.frombuffer(done.stdout[: len(done.stdout) & ~7], np.int64)
    if done.returncode or len(found) != graph.num_nodes():
        raise UserError(f"METIS {_how(done)}; choose --method random, or fewer parts")
    return torch.from_numpy(found.copy())


def _how(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        hint = ", perhaps since memory ran out" if done.returncode == -9 else ""
        return f"ended by signal {-done.returncode}{hint}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"failed: {said[-1][:200]}" if said else f"ended with exit code {done.returncode}"


def main() -> None:
    """Read a graph of simple edges, two rows of int64, and write the part of each entity."""
    parts, balanced, entities = (int(word) for word in sys.argv[1:])
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # DGL and METIS print there
    columns = np.frombuffer(sys.stdin.buffer.read(), np.int64).reshape(2, -1)
    head, tail = (torch.from_numpy(column.copy()) for column in columns)
    dgl: Any = load_dgl()
    graph = dgl.graph((head, tail), num_nodes=entities)
    found = dgl.metis_partition_assignment(graph, parts, balance_edges=bool(balanced))
    with out:
        out.write(found.numpy().astype(np.int64).tobytes())


if __name__ == "__main__":
    main()
