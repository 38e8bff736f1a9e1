"""Encoders turn entity ids into vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.schema import BaseModel
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.graph_ids import relation_ids
from dglke_distill.kernels import table_rows
from dglke_distill.models.pieces import CodedVectors
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.models.tables import new_table


class Encoder(nn.Module):
    """What turns entity ids into vectors; by default it keeps no graph and needs no blocks.

    Attributes:
        num_entities: entities that it knows.
        needs_graph: whether ``attach`` wants the train graph with inverse edges.
        needs_blocks: whether ``forward`` wants message-flow graphs for the ids it is given.
        whole_graph: whether these are the whole graph without the batch's facts, not what is drawn
            around the ids.
        holds_facts: whether its state holds facts of the train graph, which go where it goes.
        is_table: whether it is a table of the entities' vectors and nothing else.
        takes_vectors: whether ``take_vectors`` gives it the vectors that a training starts from.
        wants_vectors: whether it learns far less without them.
        model_class: what joins it with a score function; None: ``KGEModel``.
    """

    Options: ClassVar[type[BaseModel]] = NoOptions
    needs_graph: ClassVar[bool] = False
    needs_blocks: ClassVar[bool] = False
    whole_graph: ClassVar[bool] = False
    holds_facts: ClassVar[bool] = False
    is_table: ClassVar[bool] = False
    takes_vectors: ClassVar[bool] = False
    wants_vectors: ClassVar[bool] = False
    model_class: ClassVar[Optional[type[Any]]] = None
    num_entities: int

    @classmethod
    def build(
        cls, num_entities: int, num_relations: int, dim: int, options: Any, dtype: torch.dtype
    ) -> Encoder:
        """Build from the sizes of a dataset and validated options; ``reset`` then fills it."""
        raise NotImplementedError

    @property
    def bytes_per_entity(self) -> int:
        """Bytes kept for each entity, not counting what entities share."""
        raise NotImplementedError

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the weights as the score function likes vectors; ``scale`` None: its default."""
        raise NotImplementedError

    def take_vectors(self, vectors: Tensor, entities: Tensor) -> None:
        """Start from the vectors (n, dim) of entities (n,) int64, all others being as they are."""
        raise NotImplementedError

    def coded(self) -> Optional[CodedVectors]:
        """Return the codes and codebooks that vectors are put together from; None: it has none."""
        return None

    def set_row_sparse(self, flag: bool) -> None:
        """Choose whether gradients of tables are kept for touched rows only (see ``optim``)."""

    def attach(self, graph: Optional[Any]) -> None:
        """Take the train graph with inverse edges, or, with None, forget it."""

    def blocks_for(self, nodes: Tensor) -> Optional[Sequence[Any]]:
        """Return the message-flow graphs needed to encode ``nodes`` (u,): none."""
        return None

    def store_encoded(self) -> None:
        """Keep in the module's own state all that ``forward`` needs without a graph."""

    def take_sizes(self, tensors: Mapping[str, Tensor]) -> None:
        """Size buffers whose length the data decides as a file has them; by default there is none.

        Args:
            tensors: what the file holds of the encoder, by names within it.

        Raises:
            UserError: a value in them is out of range.
        """

    def step_floats(self, queries: int, edges: int) -> int:
        """Return the floats that a step holds for its queries beside their entities' vectors.

        Args:
            queries: asked in the step.
            edges: of the train graph, inverse ones included.
        """
        return 0

    def passing_floats(self, size: int) -> int:
        """Return the floats of the largest tensor that encoding ``size`` entities makes by the way.

        0, the default, where it makes nothing beside their vectors.
        """
        return 0

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the vectors (u, dim) of entity ids (u,) int64, or of all entities in id order."""
        raise NotImplementedError


class GraphEncoder(Encoder):
    """Base of what reads the train graph, to pass messages along it or to take tokens from it."""

    num_relations: int
    _graph: Any = None

    @classmethod
    def build(
        cls, num_entities: int, num_relations: int, dim: int, options: Any, dtype: torch.dtype
    ) -> Encoder:
        """Build from the sizes of a dataset and validated options."""
        return cls(num_entities, num_relations, dim, options, dtype)

    def attach(self, graph: Optional[Any]) -> None:
        """Give the encoder its graph; None takes it away.

        Args:
            graph: train graph with inverse edges, ``build_graph(train, n, inverse=True)``.

        Raises:
            ValueError: the graph has another number of nodes, no relation ids, no inverse edges,
                or relation ids out of range.
        """
        if graph is not None:
            check_message_graph(graph, self.num_entities, self.num_relations)
        self._graph = graph


class LookupEncoder(Encoder):
    """One learned vector per entity.

    Args:
        num_entities: rows of the table.
        dim: floats per entity.
        dtype: dtype of the table.

    Attributes:
        weight: the table, (num_entities, dim).
    """

    is_table = takes_vectors = True

    def __init__(self, num_entities: int, dim: int, dtype: torch.dtype = torch.float32) -> None:
        """Allocate the table; ``reset`` fills it."""
        super().__init__()
        self.num_entities = num_entities
        self.weight = new_table(num_entities, dim, dtype)

    @classmethod
    def build(
        cls, num_entities: int, num_relations: int, dim: int, options: Any, dtype: torch.dtype
    ) -> Encoder:
        """Build from the sizes of a dataset and validated options."""
        return cls(num_entities, dim, dtype)

    @property
    def bytes_per_entity(self) -> int:
        """Bytes of a row of the table."""
        return self.weight.shape[1] * self.weight.element_size()

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the table as the score function likes it; ``scale`` None means its default."""
        with torch.no_grad():
            score_function.init_entity(self.weight, scale, generator)

    def take_vectors(self, vectors: Tensor, entities: Tensor) -> None:
        """Start from the vectors (n, dim) of entities (n,) int64, all others being as they are."""
        copy_rows(self.weight, entities, vectors)

    def set_row_sparse(self, flag: bool) -> None:
        """Choose whether the table's gradient is kept for touched rows only (see ``optim``)."""
        self.weight.row_sparse = flag  # type: ignore[attr-defined]

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the vectors (u, dim) of entity ids (u,) int64, or of all entities in id order."""
        return self.weight if nodes is None else table_rows(self.weight, nodes)


def copy_rows(to: Tensor, ids: Tensor, values: Tensor) -> None:
    """Write rows (n, dim) of a table by their numbers (n,) int64, whatever asks for gradients."""
    to.data[ids.to(to.device)] = values.detach().to(device=to.device, dtype=to.dtype)


def check_message_graph(graph: Any, num_entities: int, num_relations: int) -> None:
    """Check that a graph is ``build_graph(train, num_entities, inverse=True)``.

    Raises:
        ValueError: it has another number of nodes, no relation ids, no inverse edges, or relation
            ids out of range.
    """
    relation = relation_ids(graph)
    if graph.num_nodes() != num_entities:
        raise ValueError(
            f"the graph has {graph.num_nodes()} nodes, the encoder {num_entities} rows"
        )
    if len(relation) and not num_relations <= int(relation.max()) < 2 * num_relations:
        raise ValueError(
            f"relation ids must reach from 0 to {2 * num_relations - 1}: build the graph with "
            "inverse=True and the dataset's number of relations"
        )
