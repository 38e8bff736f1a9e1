"""Vectors whose search by inner product or distance gives the model's own ranking.

A score is a comparison of a query with each entity's vector. Where that is an inner product or a
Euclidean distance, any vector database ranks as the model does:

- ``dot``: by inner product. A bias of each entity is one more coordinate, met by a 1.
- ``l2``: by distance; a bias has no place in it.
- ``l2_squared``: by distance, and with biases b by inner product, since
  -|q - e|^2 + b = 2 q . e - |e|^2 + b - |q|^2, of which the last term is the same for all entities.

A database that has distances alone (sqlite-vec) gets inner products by one more coordinate, which
makes all entities equally long (Bachrach et al. 2014, "Speeding up the Xbox recommender system
using a Euclidean transformation for inner-product spaces", section 3).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import SIDES, Side
from dglke_distill.interop.base import (
    Array,
    ExportFormat,
    as_float32,
    entity_bias,
    entity_labels,
    entity_table,
)
from dglke_distill.interop.query_forms import QueryForms, formats_for, query_forms

Metric = Literal["ip", "l2"]
Found = Callable[[Array, int], Array]
"""Takes queries (b, d) and k; returns the ids (b, k) that a search finds, -1 for none."""

_K = 10
_REASONS = {
    "l1": "its scores are L1 distances (set model.options.norm=l2 when it is trained)",
    "complex_modulus": "its scores are sums of moduli of complex numbers",
    "hyperbolic_squared": "its scores are distances in hyperbolic space",
}


class SearchVectors(NamedTuple):
    """What a vector database holds, and is asked with.

    Attributes:
        metric: ``ip`` (greatest inner product) or ``l2`` (least distance).
        entities: (entities, d) float32, in id order.
        query: makes the queries (b, d) float32 of entity ids (b,), relation ids (b,) and the side
            that is asked for.
        scale: what the model's own queries are times in these.
        ends: the coordinates that follow them.
    """

    metric: Metric
    entities: Array
    query: Callable[[Tensor, Tensor, Side], Array]
    scale: float
    ends: tuple[float, ...]


def search_vectors(
    loaded: LoadedModel, format: str, *, distances_only: bool = False
) -> SearchVectors:
    """Return vectors whose search ranks entities as the model does.

    Args:
        loaded: the model.
        format: for messages.
        distances_only: whether inner products must become distances.

    Raises:
        UserError: no such search ranks as the model; the reason is named.
    """
    model, function = loaded.model, loaded.model.score_function
    name = loaded.config.model.name
    bias = entity_bias(loaded)
    reason = _REASONS.get(function.kernel)
    if function.transforms_candidates:
        reason = "each relation moves the entities it is compared with, so that there is no one "
        reason += "vector of each"
    elif function.kernel == "l2" and bias is not None:
        reason = "it adds a bias to distances, which no search by distance knows"
    if reason is not None:
        raise UserError(
            f"--format {format}: {name} cannot be searched by inner product or distance: {reason}; "
            f"export it as {formats_for(model)}, or export a ComplEx, DistMult, RESCAL, SimplE or "
            "RotE"
        )
    table = entity_table(loaded).astype(np.float64)
    metric: Metric = "ip" if function.kernel == "dot" else "l2"
    scale, extra = 1.0, []
    if function.kernel == "l2_squared" and bias is not None:
        metric, scale = "ip", 2.0
        extra = [(bias.astype(np.float64) - np.square(table).sum(1), 1.0)]
    elif bias is not None:
        extra = [(bias.astype(np.float64), 1.0)]
    whole = np.concatenate([table, *(column[:, None] for column, _ in extra)], axis=1)
    met = [value for _, value in extra]
    if distances_only and metric == "ip":
        lengths = np.square(whole).sum(1)
        rest = np.sqrt(np.maximum(lengths.max(initial=0.0) - lengths, 0.0))
        whole, met, metric = np.concatenate([whole, rest[:, None]], axis=1), [*met, 0.0], "l2"

    def query(entity: Tensor, relation: Tensor, side: Side) -> Array:
        with torch.no_grad():
            rows = model.encode(None)
            vectors = model.query(rows, entity, relation, side).vectors.double().cpu().numpy()
        ends = np.broadcast_to(np.array(met, np.float64), (len(vectors), len(met)))
        return as_float32(np.concatenate([scale * vectors, ends], axis=1))

    entities = as_float32(whole)
    if not np.isfinite(entities).all():
        raise UserError(f"--format {format}: a vector is not finite: the model has diverged")
    return SearchVectors(metric, entities, query, scale, tuple(met))


class VectorOptions(NoOptions):
    """Options of every vector export."""

    questions: int = Field(
        200, ge=0, le=100_000, description="how many questions measure the recall; 0: none"
    )


@contextmanager
def _database_errors(place: Path) -> Iterator[None]:
    """Let a database's error be one of writing, as a full disk is: each library has its own."""
    try:
        yield
    except Exception as error:
        libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if libraries & {"apsw", "sqlite3"}:
            raise OSError(
                errno.EIO,
                f"{error}: is the disk full, or is there a limit on file sizes?",
                str(place),
            ) from error
        raise


class VectorExport(ExportFormat):
    """Base of the exports to vector databases; a subclass writes ``fill``.

    Beside what ``fill`` writes lie ``queries.npz``, with which a few lines of NumPy make the vector
    that any question asks with, ``recall.json`` and ``README.md``, which shows both.
    """

    directory = True
    extra = "vectors"
    Options = VectorOptions
    distances_only = False
    labels: Optional[list[str]] = None
    """Labels of the entities in id order, empty where one has none; None without any. They are set
    before ``fill`` is called."""

    def fill(
        self, names: list[str], vectors: SearchVectors, options: Any, place: Path
    ) -> tuple[str, Found]:
        """Write the database.

        Args:
            names: of the entities, in id order.
            vectors: what it shall hold.
            options: validated instance of ``Options``.
            place: an empty directory.

        Returns:
            How it is asked, as lines of Python after ``query`` is made; and a search in it.

        Raises:
            UserError: the database cannot hold this model.
        """
        raise NotImplementedError

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write the database, the queries, the recall and how to ask."""
        vectors = search_vectors(loaded, self.name, distances_only=self.distances_only)
        self.labels = entity_labels(loaded)
        with _database_errors(place):
            asked, search = self.fill(list(loaded.entities), vectors, options, place)
        asked = asked.format(entity=loaded.entities[0], relation=loaded.relations[0])
        recall = _recall(loaded, vectors, search, options.questions) if options.questions else None
        self.said = _said(vectors, options.questions, recall)
        made = _HOW
        try:
            forms = query_forms(loaded.model)
        except UserError:  # its queries are no affine maps: the library itself makes them
            made = _BY_LIBRARY.format(distances_only=self.distances_only)
        else:
            _write_forms(place / "queries.npz", loaded, vectors, forms, self.labels)
        about = {
            "metric": vectors.metric, "dimensions": int(vectors.entities.shape[1]),
            "entities": len(vectors.entities), "k": _K, "questions": options.questions,
            "recall": recall,
        }  # fmt: skip
        (place / "recall.json").write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")
        (place / "README.md").write_text(
            f"# {loaded.config.model.name} of {loaded.dataset_name} for vector search\n\n"
            f"{self.said}\n\n```python\n{made}\n{asked}\n```\n",
            encoding="utf-8",
        )


def _said(vectors: SearchVectors, questions: int, recall: Optional[float]) -> str:
    count, dim = vectors.entities.shape
    how = "not measured" if recall is None else f"{recall:.4f}"
    of = "" if recall is None else f", of {questions} random questions"
    return (
        f"{count} entities, {dim} floats each, searched by {_WORDS[vectors.metric]}: recall@{_K} "
        f"against the model's exact ranking {how}{of}"
    )


_WORDS = {"ip": "inner product (greatest first)", "l2": "Euclidean distance (least first)"}
_HOW = '''import numpy as np

q = np.load("queries.npz")
names, relations = q["entity_names"].tolist(), q["relation_names"].tolist()

def query(entity, relation, side="tail"):
    """The vector that asks (entity, relation, ?), or with side="head" (?, relation, entity)."""
    e, r = q["entity"][names.index(entity)], relations.index(relation)
    if f"{side}_matrix" in q:
        moved = e @ q[f"{side}_matrix"][r]
    else:
        swapped = np.roll(e, len(e) // 2) if len(e) % 2 == 0 else e
        moved = q[f"{side}_scale"][r] * e + q[f"{side}_cross"][r] * swapped
    moved = moved + q[f"{side}_shift"][r]
    if f"{side}_bias" in q:  # a hidden layer
        moved = moved + np.maximum(q["inner"] @ e + q[f"{side}_bias"][r], 0) @ q["outer"]
    moved = moved * q["scale"]
    return np.concatenate([moved, q["ends"]]).astype(np.float32)'''
_BY_LIBRARY = '''# Queries of this model are no simple maps: the library makes them.
import dglke_distill as kd
from dglke_distill.interop.vectors import search_vectors

model = kd.load("...")  # the model that was exported
names = list(model.entities)

def query(entity, relation, side="tail"):
    """The vector that asks (entity, relation, ?), or with side="head" (?, relation, entity)."""
    asked = search_vectors(model.loaded, "here", distances_only={distances_only}).query
    return asked(model.entity_ids([entity]), model.relation_ids([relation]), side)[0]'''


def _write_forms(
    path: Path,
    loaded: LoadedModel,
    vectors: SearchVectors,
    forms: QueryForms,
    labels: Optional[list[str]],
) -> None:
    arrays: dict[str, Any] = {
        "entity": as_float32(entity_table(loaded)),
        "entity_names": np.array(list(loaded.entities), dtype=np.str_),
        "relation_names": np.array(list(loaded.relations), dtype=np.str_),
        "scale": np.float32(vectors.scale),
        "ends": np.array(vectors.ends, np.float32),
    }
    if labels is not None:
        arrays["entity_labels"] = np.array(labels, dtype=np.str_)
    for side in SIDES:
        for part, values in forms.query[side]._asdict().items():
            if values is not None:
                arrays[f"{side}_{part}"] = as_float32(values.numpy())
        if forms.hidden is not None:
            layer = forms.hidden[side]
            arrays[f"{side}_bias"] = as_float32(layer.bias.numpy())
            arrays |= {end: as_float32(getattr(layer, end).numpy()) for end in ("inner", "outer")}
    with open(path, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def _recall(loaded: LoadedModel, vectors: SearchVectors, search: Found, questions: int) -> float:
    """Return how many of the best ten a search finds; one that is as good counts as found."""
    rng = np.random.default_rng(0)
    count, k = len(vectors.entities), min(_K, len(vectors.entities))
    entity = torch.from_numpy(rng.integers(0, count, questions))
    relation = torch.from_numpy(rng.integers(0, len(loaded.relations), questions))
    hits = total = 0
    for number, side in enumerate(SIDES):
        rows = np.arange(questions)[number::2]
        for chosen in np.array_split(rows, max(1, len(rows) // 64)):
            if not len(chosen):
                continue
            own = entity[chosen], relation[chosen]
            exact = loaded.model.score_all(*own, side).cpu().numpy()
            if not np.isfinite(exact).all():
                raise UserError(
                    "the model's scores are not finite, so no search ranks as it does: its "
                    "training has diverged; train it with a lower learning rate"
                )
            found = search(vectors.query(*own, side), k)
            least = np.partition(exact, -k, axis=1)[:, -k][:, None]
            slack = 1e-5 * np.abs(exact).max(axis=1, keepdims=True)
            scores = np.take_along_axis(exact, np.maximum(found, 0), 1)
            hits += int(((scores >= least - slack) & (found >= 0)).sum())
            total += found.size
    return hits / total if total else 1.0
