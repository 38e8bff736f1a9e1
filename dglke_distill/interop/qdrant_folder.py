"""Entity vectors as a collection of Qdrant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dglke_distill.interop.base import Array
from dglke_distill.interop.vectors import Found, SearchVectors, VectorExport

_COLLECTION = "entities"
_BATCH = 1024
_ASKED = """
from qdrant_client import QdrantClient

client = QdrantClient(path="qdrant")  # client.migrate(QdrantClient(url=...)) fills a server
found = client.query_points("entities", query=query({entity!r}, {relation!r}).tolist(), limit=10)
print([point.payload["name"] for point in found.points])"""


class QdrantFolder(VectorExport):
    """``qdrant``: the storage of the client's local mode, with the collection ``entities``.

    A point's id is the entity's, its payload ``name``, and ``label`` where it has one. The distance
    is ``Dot`` or ``Euclid``. Local mode compares all entities; ``client.migrate`` copies the
    collection to a server.
    """

    name = "qdrant"
    about = "entity vectors as a collection of Qdrant, in local mode; dot and L2 models"
    requires = ("qdrant_client",)

    def _payload(self, names: list[str], i: int) -> dict[str, str]:
        label = self.labels[i] if self.labels is not None else ""
        return {"name": names[i], "label": label} if label else {"name": names[i]}

    def fill(
        self, names: list[str], vectors: SearchVectors, options: Any, place: Path
    ) -> tuple[str, Found]:
        """Write the collection, and read it back for the search."""
        from qdrant_client import QdrantClient, models

        distance = models.Distance.DOT if vectors.metric == "ip" else models.Distance.EUCLID
        folder = place / "qdrant"
        client = QdrantClient(path=str(folder))
        try:
            client.create_collection(
                _COLLECTION,
                vectors_config=models.VectorParams(
                    size=vectors.entities.shape[1], distance=distance
                ),
            )
            _do_not_wait_for_the_disk(client)
            for start in range(0, len(names), _BATCH):
                ids = range(start, min(start + _BATCH, len(names)))
                client.upsert(
                    _COLLECTION,
                    models.Batch(
                        ids=list(ids),
                        vectors=vectors.entities[start : start + _BATCH].tolist(),
                        payloads=[self._payload(names, i) for i in ids],
                    ),
                )
        finally:
            client.close()

        def search(queries: Array, k: int) -> Array:
            found = np.full((len(queries), k), -1, np.int64)
            again = QdrantClient(path=str(folder))
            try:
                for i, query in enumerate(queries):
                    points = again.query_points(_COLLECTION, query=query.tolist(), limit=k).points
                    found[i, : len(points)] = [point.id for point in points]
            finally:
                again.close()
            return found

        return _ASKED, search


def _do_not_wait_for_the_disk(client: Any) -> None:
    """Have local mode not flush each point to the disk, which takes nine tenths of the time.

    The folder is thrown away if anything goes wrong, and flushed before it gets its name. The
    connection has no public name; without it, the export is slow.
    """
    try:
        connection = client._client.collections[_COLLECTION].storage.storage
    except (AttributeError, KeyError):
        return
    for word in ("synchronous", "journal_mode"):
        connection.execute(f"PRAGMA {word} = OFF")
