"""Entity vectors as a FAISS index."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.interop.base import Array
from dglke_distill.interop.vectors import Found, SearchVectors, VectorExport, VectorOptions

_TRAINED = 256
_ASKED = """
import faiss

index = faiss.read_index("entities.faiss")
scores, ids = index.search(query({entity!r}, {relation!r})[None], 10)
print([names[i] for i in ids[0] if i >= 0])"""


class FaissOptions(VectorOptions):
    """Options of the FAISS index."""

    index: Literal["flat", "ivfpq", "hnsw"] = Field(
        "flat", description="flat (exact), ivfpq (small) or hnsw (fast)"
    )
    lists: int = Field(0, ge=0, le=1 << 20, description="ivfpq: cells; 0: the root of the entities")
    probes: int = Field(0, ge=0, le=1 << 20, description="ivfpq: cells searched; 0: a quarter")
    pieces: int = Field(
        0, ge=0, le=1 << 12, description="ivfpq: bytes per entity; 0: half the dimensions at most"
    )
    links: int = Field(32, ge=2, le=512, description="hnsw: links per entity")
    search: int = Field(128, ge=1, le=1 << 16, description="hnsw: entities looked at per query")


class FaissIndex(VectorExport):
    """``entities.faiss``, whose ids are the entities' (``entity_names`` in ``queries.npz``).

    Where entities have labels, these are ``entity_labels`` there.

    The index has ``METRIC_INNER_PRODUCT`` or ``METRIC_L2``: ``flat`` compares all entities,
    ``ivfpq`` keeps codes of ``pieces`` bytes in cells (Jegou, Douze, Schmid 2011, "Product
    quantization for nearest neighbor search"), ``hnsw`` walks a graph (Malkov, Yashunin 2018,
    "Efficient and robust approximate nearest neighbor search using HNSW graphs").
    """

    name = "faiss"
    about = "entity vectors as a FAISS index: flat, ivfpq or hnsw; dot and L2 models"
    requires = ("faiss",)
    Options = FaissOptions

    def fill(
        self, names: list[str], vectors: SearchVectors, options: Any, place: Path
    ) -> tuple[str, Found]:
        """Write the index."""
        import faiss

        dim = vectors.entities.shape[1]
        metric = faiss.METRIC_INNER_PRODUCT if vectors.metric == "ip" else faiss.METRIC_L2
        faiss.omp_set_num_threads(torch.get_num_threads())
        index: Any
        if options.index == "flat":
            index = faiss.IndexFlat(dim, metric)
        elif options.index == "hnsw":
            index = faiss.IndexHNSWFlat(dim, options.links, metric)
            index.hnsw.efSearch = options.search
        else:
            index = _ivfpq(faiss, vectors.entities, metric, options)
        index.add(vectors.entities)
        faiss.write_index(index, str(place / "entities.faiss"))

        def search(queries: Array, k: int) -> Array:
            found: Array = index.search(queries, k)[1]
            return found

        return _ASKED, search


def _ivfpq(faiss: Any, entities: Array, metric: int, options: Any) -> Any:
    count, dim = entities.shape
    if count < _TRAINED:
        raise UserError(
            f"--format faiss: an ivfpq index is learned from {_TRAINED} entities or more, the "
            f"model has {count}; write a flat one (--set index=flat)"
        )
    lists = options.lists or max(1, round(count**0.5))
    if lists > count:
        raise UserError(f"--format faiss: {lists} lists for {count} entities; give fewer")
    pieces = options.pieces or next(p for p in range(max(1, dim // 2), 0, -1) if dim % p == 0)
    if dim % pieces:
        fits = [p for p in range(1, dim + 1) if dim % p == 0]
        raise UserError(
            f"--format faiss: pieces={pieces} does not divide the {dim} dimensions; give one of "
            f"{', '.join(map(str, fits))}"
        )
    coarse = faiss.IndexFlat(dim, metric)
    index = faiss.IndexIVFPQ(coarse, dim, lists, pieces, 8, metric)
    index.own_fields = True
    coarse.this.disown()
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(entities))
    index.nprobe = min(lists, options.probes or max(1, lists // 4))
    return index
