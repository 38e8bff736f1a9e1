"""NodePiece: an encoder whose parameters do not grow with the number of entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding_bag

from dglke_distill.base.errors import UserError
from dglke_distill.kernels import take_rows
from dglke_distill.models.encoders import GraphEncoder
from dglke_distill.models.node_piece_options import NodePieceOptions
from dglke_distill.models.score_function import ScoreFunction

CHUNK_ROWS = 1 << 14
"""Entities encoded at once where all of them are without gradients."""
_SAMPLE = 1024

Rows = Union[slice, Tensor]


class NodePieceEncoder(GraphEncoder):
    """e = W_2 relu(W_1 [a_1 + z_1; ...; a_k + z_k; c_1; ...; c_m] + b_1) + b_2.

    a (token_dim,) are vectors of the k anchors nearest to the entity in the train graph, z of their
    distances, c of m relations that leave it, inverse ones included; missing ones have vectors of
    their own. Galkin, Denis, Wu, Hamilton 2022, "NodePiece: compositional and
    parameter-efficient representations of large knowledge graphs". As there, the tokens are taken
    from the whole train graph, the edges that a batch is asked about included.

    Tokens are found when they are first needed, from the graph that ``attach`` was given, and are
    part of the state: a model that is loaded, or a run that is resumed, does not look for them
    again.

    Args:
        num_entities: entities.
        num_relations: relations of the dataset, inverses not counted.
        dim: floats per entity.
        options: see ``NodePieceOptions``.
        dtype: dtype of the weights.

    Attributes:
        anchors: (A,) int64 entities; -1 before tokens are there.
        nearest: as in ``node_piece_tokens.Tokens``, in the fewest bytes.
        distance: as in ``node_piece_tokens.Tokens``, in the fewest bytes.
        context: as in ``node_piece_tokens.Tokens``, in the fewest bytes.
    """

    Options = NodePieceOptions
    needs_graph = True
    anchors: Tensor
    nearest: Tensor
    distance: Tensor
    context: Tensor

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        options: NodePieceOptions,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate weights, to be filled by ``reset``, and tokens.

        Raises:
            UserError: the shares of anchors add up to more than 1.
        """
        super().__init__()
        if options.degree_share + options.pagerank_share > 1 + 1e-9:
            raise UserError(
                "model.encoder_options of node_piece: degree_share "
                f"{options.degree_share:g} and pagerank_share {options.pagerank_share:g} add up to "
                "more than 1; lower one of them"
            )
        self.num_entities, self.num_relations, self.options = num_entities, num_relations, options
        self.num_anchors = count = options.count_anchors(num_entities)
        floats, hidden = options.token_dim or dim, options.hidden or 2 * dim
        slots = options.per_entity + options.context

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape, dtype=dtype))

        self.anchor_weight = weight(count + 1, floats)
        self.distance_weight = weight(options.max_distance + 2, floats)
        self.context_weight = weight(2 * num_relations + 1, floats)
        self.hidden_weight, self.hidden_bias = weight(slots, floats, hidden), weight(hidden)
        self.out_weight, self.out_bias = weight(hidden, dim), weight(dim)

        def tokens(name: str, width: int, largest: int) -> None:
            kinds = ((256, torch.uint8), (1 << 15, torch.int16), (1 << 31, torch.int32))
            kind = next(kind for size, kind in kinds if largest < size)
            self.register_buffer(name, torch.zeros(num_entities, width, dtype=kind))

        tokens("nearest", options.per_entity, count)
        tokens("distance", options.per_entity, options.max_distance + 1)
        tokens("context", options.context, 2 * num_relations)
        self.register_buffer("anchors", torch.full((count,), -1))
        self.register_load_state_dict_post_hook(NodePieceEncoder._loaded)
        self._graph: Any = None
        self._ready = False
        self._kept: Optional[tuple[Any, Tensor]] = None

    @property
    def bytes_per_entity(self) -> int:
        """Bytes of an entity's tokens."""
        return sum(
            table.shape[1] * table.element_size()
            for table in (self.nearest, self.distance, self.context)
        )

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the weights so that vectors have the deviation that the score function likes.

        Tokens and the first layer start with one deviation, so that both learn at one pace;
        distances start small, because all entities share them.
        """
        hidden, dim = self.out_weight.shape
        with torch.no_grad():
            sample = self.out_weight.new_zeros(_SAMPLE, dim)
            score_function.init_entity(sample, scale, generator)
            slots, floats, _ = self.hidden_weight.shape
            even = (2.0 / (slots * floats)) ** 0.25  # so that squares of hidden units have mean 1
            for weight, deviation in (
                (self.anchor_weight, even),
                (self.context_weight, even),
                (self.distance_weight, even / 10),
                (self.hidden_weight, even),
                (self.out_weight, float(sample.std()) / hidden**0.5),
            ):
                weight.normal_(0.0, deviation, generator=generator)
            self.hidden_bias.zero_()
            self.out_bias.zero_()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process or a copy needs: tokens, no graph."""
        self.store_encoded()
        return {**self.__dict__, "_graph": None, "_kept": None}

    def store_encoded(self) -> None:
        """Find the tokens if there is a graph to take them from."""
        if self._graph is not None:
            self._prepare()

    def _prepare(self) -> None:
        """Find the tokens, if they are not there."""
        if self._ready or self._has_tokens():
            return
        if self._graph is None:
            raise UserError(
                "the NodePiece encoder has neither a graph nor tokens: call attach(graph), or load "
                "a model saved after store_encoded()"
            )
        options = self.options
        from dglke_distill.models.node_piece_tokens import tokenise  # compiled: not to load

        found = tokenise(
            self._graph,
            self.num_relations,
            anchors=self.num_anchors,
            per_entity=options.per_entity,
            context=options.context,
            max_distance=options.max_distance,
            degree_share=options.degree_share,
            pagerank_share=options.pagerank_share,
            seed=options.seed,
        )
        for name in reversed(found._fields):  # anchors last: they say that tokens are there
            getattr(self, name).copy_(torch.from_numpy(getattr(found, name)))
        self._ready, self._graph = True, None

    @staticmethod
    def _loaded(module: NodePieceEncoder, _: Any) -> None:
        module._ready, module._kept = False, None
        if not module.anchors.is_meta:
            module._has_tokens()

    def _has_tokens(self) -> bool:
        """Look whether tokens have been read from a file, which may hold any numbers."""
        if not bool((self.anchors >= 0).all()):
            return False
        for table, largest in (
            (self.anchors, self.num_entities - 1),
            (self.nearest, self.num_anchors),
            (self.distance, self.options.max_distance + 1),
            (self.context, 2 * self.num_relations),
        ):
            if table.numel() and not 0 <= int(table.min()) <= int(table.max()) <= largest:
                raise UserError("the model's tokens name anchors or relations that do not exist")
        self._ready = True
        return True

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Encode entities.

        Args:
            nodes: (u,) int64 distinct ids, or None for all entities in id order.
            blocks: not used.

        Returns:
            (u, dim).

        Raises:
            UserError: no tokens, and no graph attached to take them from.
        """
        self._prepare()
        if torch.is_grad_enabled():
            self._kept = None  # weights are about to change
            rows: Rows = slice(None) if nodes is None else nodes
            return self._encode(rows, self._tables(len(self.nearest[rows])))
        if nodes is not None or self.training:
            return self._in_chunks(nodes)
        now = [_checksum(weight) for weight in self.parameters()]
        if self._kept is None or self._kept[0] != now:
            self._kept = (now, self._in_chunks(None))
        return self._kept[1]

    def _in_chunks(self, nodes: Optional[Tensor]) -> Tensor:
        size = self.num_entities if nodes is None else len(nodes)
        tables = self._tables(size)
        out = self.out_weight.new_empty(size, self.out_weight.shape[1])
        for start in range(0, size, CHUNK_ROWS):
            chunk = slice(start, min(start + CHUNK_ROWS, size))
            out[chunk] = self._encode(chunk if nodes is None else nodes[chunk], tables)
        return out

    def _table_rows(self) -> int:
        near, more = self.nearest.shape[1], self.context.shape[1]
        of_anchors = len(self.anchor_weight) + len(self.distance_weight)
        return near * of_anchors + more * len(self.context_weight)

    def passing_floats(self, size: int) -> int:
        """See ``Encoder.passing_floats``."""
        slots, floats, hidden = self.hidden_weight.shape
        rows = self._table_rows()
        return size * slots * floats if size * slots <= rows else max(rows, size) * hidden

    def _tables(self, size: int) -> Optional[Tensor]:
        """Return each token's share in the hidden units by slot, if ``size`` entities pay for it.

        Returns:
            (rows, hidden): per slot of an anchor those of all anchors, per slot of a distance those
            of all distances, per slot of a relation those of all relations; or None.
        """
        near, more = self.nearest.shape[1], self.context.shape[1]
        if size * (near + more) <= self._table_rows():
            return None
        for_anchors, for_context = self.hidden_weight.split([near, more])
        parts = [
            weight @ slot  # (1, n, token_dim) @ (slots, token_dim, hidden)
            for weight, slot in (
                (self.anchor_weight[None], for_anchors),
                (self.distance_weight[None], for_anchors),
                (self.context_weight[None], for_context),
            )
        ]
        return torch.cat([part.flatten(0, 1) for part in parts])

    def _encode(self, rows: Rows, tables: Optional[Tensor]) -> Tensor:
        nearest, distance, context = (
            table[rows].long() for table in (self.nearest, self.distance, self.context)
        )
        if tables is None:
            (size, near), more = nearest.shape, context.shape[1]
            anchors = take_rows(self.anchor_weight, nearest.reshape(-1))
            anchors = anchors + take_rows(self.distance_weight, distance.reshape(-1))
            relations = take_rows(self.context_weight, context.reshape(-1))
            floats = anchors.shape[1]
            parts = (anchors.view(size, near * floats), relations.view(size, more * floats))
            hidden = torch.cat(parts, dim=1) @ self.hidden_weight.flatten(0, 1)
        else:
            tokens, first = [], 0
            for index, weight in (
                (nearest, self.anchor_weight),
                (distance, self.distance_weight),
                (context, self.context_weight),
            ):
                slots = torch.arange(index.shape[1], device=index.device)
                tokens.append(index + slots * len(weight) + first)
                first += len(slots) * len(weight)
            hidden = embedding_bag(torch.cat(tokens, dim=1), tables, mode="sum")
        hidden = (hidden + self.hidden_bias).relu()
        # Without gradients nobody trains: ranks must not depend on a forgotten eval().
        training = self.training and torch.is_grad_enabled()
        hidden = dropout(hidden, self.options.dropout, training)
        return hidden @ self.out_weight + self.out_bias


def _checksum(weight: Tensor) -> tuple[torch.device, int]:
    """Return the sum of a tensor's bits, read as integers."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
    return weight.device, int(weight.detach().view(integers).sum())
