"""An encoder that reads an entity's neighbourhood in the training graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Optional

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.kernels import table_rows
from dglke_distill.models.encoders import GraphEncoder, LookupEncoder
from dglke_distill.models.message_passing import BasisLayer, CompositionLayer, RelationalLayer
from dglke_distill.models.score_function import ScoreFunction

FANOUT = 10
"""Neighbours drawn per entity and layer unless ``fanouts`` says otherwise."""
CHUNK_FLOATS = 1 << 25
"""Floats of messages held at once when the whole graph is encoded without gradients."""


class NeighborOptions(NoOptions):
    """Options of the neighbour encoder."""

    layers: int = Field(1, ge=1, le=8, description="rounds of message passing")
    fanouts: Optional[list[Annotated[int, Field(ge=-1, le=1 << 20)]]] = Field(
        None, description="incoming edges drawn per entity and layer, outermost first; -1: all"
    )
    composition: Literal["rgcn_basis", "compgcn"] = Field(
        "rgcn_basis", description="how a neighbour's vector depends on the relation"
    )
    bases: int = Field(4, ge=1, le=4096, description="basis matrices of rgcn_basis")
    operation: Literal["subtract", "multiply", "correlate"] = Field(
        "multiply", description="how compgcn joins an entity with a relation"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of a layer's output dropped")
    residual: bool = Field(True, description="add each layer's input to its output")


class NeighborEncoder(GraphEncoder, LookupEncoder):
    """A lookup table, then layers of relational message passing over the train graph.

    Works on the blocks of a batch (``forward(nodes, blocks)``), or on the whole graph once
    ``attach`` has been given it. Without graph and blocks, as when a trained model is loaded, it
    returns the vectors that ``store_encoded`` last kept; these are a buffer, so gradients end
    there.

    The output has the table's size. Between layers stands a ReLU; the last layer has none.

    Args:
        num_entities: rows of the table.
        num_relations: relations of the dataset, inverses not counted.
        dim: floats per entity.
        options: see ``NeighborOptions``.
        dtype: dtype of the weights.

    Attributes:
        weight: the table, (num_entities, dim).
        encoded: what ``store_encoded`` kept, (num_entities, dim); zeros before.
        fanouts: incoming edges to draw per layer, outermost layer first; -1 for all.
    """

    Options = NeighborOptions
    needs_graph = needs_blocks = True
    is_table = takes_vectors = False

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        options: NeighborOptions,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate the table and the layers; ``reset`` fills them."""
        super().__init__(num_entities, dim, dtype)
        self.options = options
        self.num_relations = num_relations
        self.fanouts = options.fanouts or [FANOUT] * options.layers
        if len(self.fanouts) != options.layers or any(f == 0 or f < -1 for f in self.fanouts):
            raise UserError(
                f"model.encoder_options of neighbor: fanouts is {self.fanouts}; give a number for "
                f"each of the {options.layers} layers, at least 1, or -1 for all neighbours"
            )
        twice = 2 * num_relations
        self.layers = nn.ModuleList(
            BasisLayer(dim, twice, options.bases, dtype)
            if options.composition == "rgcn_basis"
            else CompositionLayer(dim, twice, options.operation, i == 0, dtype)
            for i in range(options.layers)
        )
        self.register_buffer("encoded", torch.zeros(num_entities, dim, dtype=dtype))
        self.encoded: Tensor
        self._graph: Any = None

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the table as the score function likes it, and the layers at that scale."""
        super().reset(score_function, scale, generator)
        with torch.no_grad():
            for layer in self._layers():
                layer.reset(generator)
            self.encoded.zero_()

    def _layers(self) -> Iterator[RelationalLayer]:
        for layer in self.layers:
            assert isinstance(layer, RelationalLayer)
            yield layer

    def blocks_for(self, nodes: Tensor) -> Optional[Sequence[Any]]:
        """Return blocks of all neighbours of ``nodes`` (u,), or None if no graph is attached."""
        if self._graph is None:
            return None
        blocks: list[Any] = []
        for _ in self.layers:
            block = self._incoming(nodes)
            blocks.insert(0, block)
            nodes = block.srcdata["_ID"]
        return blocks

    def _incoming(self, nodes: Tensor) -> Any:
        """Return the block of all edges into ``nodes``, with relation ids on its edges."""
        dgl = load_dgl()
        incoming = dgl.in_subgraph(self._graph, nodes)
        block = dgl.to_block(incoming, nodes)
        block.edata["relation"] = incoming.edata["relation"][block.edata[dgl.EID]]
        return block

    def store_encoded(self) -> None:
        """Encode every entity and keep the result in ``encoded``; nothing without a graph."""
        if self._graph is not None:
            with torch.no_grad():
                self.encoded.copy_(self.forward(None))

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Encode entities.

        Args:
            nodes: (u,) int64 distinct ids, or None for all entities in id order.
            blocks: one per layer, the last one's destinations being ``nodes``, each with
                ``edata["relation"]``; None for all neighbours in the attached graph, or, without
                one, for the stored vectors.

        Returns:
            (u, dim).

        Raises:
            UserError: no blocks, no graph attached, and nothing stored.
        """
        if blocks is None and self._graph is None:
            if not (self.encoded[0].any() or self.encoded.any()):
                raise UserError(
                    "the neighbour encoder has neither a graph nor stored vectors: call "
                    "attach(graph), or load a model saved after store_encoded()"
                )
            return self.encoded if nodes is None else self.encoded[nodes]
        if blocks is None and nodes is not None:
            blocks = self.blocks_for(nodes)
        if blocks is None:
            vectors: Tensor = self.weight
            steps: list[Any] = [self._graph] * len(self.layers)
        else:
            vectors = table_rows(self.weight, blocks[0].srcdata["_ID"])
            steps = list(blocks)
        table: Optional[Tensor] = None
        for i, (layer, graph) in enumerate(zip(self._layers(), steps)):
            table = layer.relation_table(table)
            if graph is self._graph and not torch.is_grad_enabled():
                passed = torch.cat(
                    [
                        layer(block, vectors[block.srcdata["_ID"]], table)
                        for block in self._graph_in_blocks()
                    ]
                )
            else:
                passed = layer(graph, vectors, table)
            if i + 1 < len(self.layers):
                passed = passed.relu()
            # Without gradients nobody trains: ranks must not depend on a forgotten eval().
            training = self.training and torch.is_grad_enabled()
            passed = dropout(passed, self.options.dropout, training)
            vectors = passed + vectors[: len(passed)] if self.options.residual else passed
        return vectors

    def _graph_in_blocks(self) -> Iterator[Any]:
        """Yield all edges in blocks of consecutive destinations, bounded in memory."""
        width = self.weight.shape[1] * max(self.options.bases, 4)
        limit = max(CHUNK_FLOATS // width, 1)
        ends = torch.cumsum(self._graph.in_degrees() + 1, 0)
        start = 0
        while start < self.num_entities:
            reached = int(ends[start - 1]) if start else 0
            stop = max(int(torch.searchsorted(ends, reached + limit, right=True)), start + 1)
            yield self._incoming(torch.arange(start, stop))
            start = stop
