"""A path-based model: entities have no vectors of their own, what is asked gives them theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config.registry import NoOptions
from dglke_distill.models.bellman_ford import Aggregation, BellmanFordLayer, fill, usual_messages
from dglke_distill.models.encoders import GraphEncoder
from dglke_distill.models.path_model import PathModel
from dglke_distill.models.score_function import ScoreFunction

_MOST_ENTITIES = 1 << 24  # ids pass as float32, which holds no larger ones exactly


class PathOptions(NoOptions):
    """Options of the path encoder."""

    layers: int = Field(
        3, ge=1, le=16, description="steps that a message goes, so the longest path"
    )
    aggregation: Aggregation = Field("sum", description="how messages that meet are joined")
    by_query: bool = Field(
        True,
        description="an edge's vector depends on the relation asked for; false: queries share it, "
        "which takes less memory and time",
    )
    frontier: Optional[int] = Field(
        None,
        ge=1,
        le=1 << 24,
        description="entities per query from which a step sends messages: those that score best so "
        "far, as in A*Net; None: all",
    )


class PathEncoder(GraphEncoder):
    """Neural Bellman-Ford network: an entity's state sums up the paths to it from the query's own.

    For a query (h, q, ?) the start vector is q at h and 0 elsewhere; ``layers`` steps of
    ``BellmanFordLayer`` over the train graph, inverse edges included, give each entity v a state
    x_v(h, q), and the score of (h, q, v) is w_2 relu(W_1 [x_v; q] + b). Zhu, Zhang, Xhonneux, Tang
    2021, "Neural Bellman-Ford networks: a general graph neural network framework for link
    prediction". Its parameters do not grow with the number of entities.

    With a ``frontier``, a step sends messages from the best entities of each query alone, times
    the sigmoid of their score so far, and only who receives one is updated. Zhu, Yuan, Galkin,
    Xhonneux, Zhang, Gazeau, Tang 2023, "A*Net: a scalable path-based reasoning approach for
    knowledge graphs", algorithm 1, its priority being the score, without a limit of edges.

    While it is trained, the facts of a batch, equal ones and the inverses of both, are left out of
    the graph. As a teacher it leaves out the facts that answer what it is asked, so that it says
    what it would think of them if it did not know them.

    Args:
        num_entities: entities.
        num_relations: relations of the dataset, inverses not counted.
        dim: floats of an entity's state.
        options: see ``PathOptions``.
        dtype: dtype of the weights.

    Attributes:
        facts: (3, n) int32 heads, relations and tails of the train graph, part of the state.
    """

    Options = PathOptions
    needs_graph = needs_blocks = whole_graph = holds_facts = True
    model_class = PathModel
    facts: Tensor

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        options: PathOptions,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate the weights; ``reset`` fills them.

        Raises:
            UserError: more entities than ids can be passed for.
        """
        super().__init__()
        if num_entities > _MOST_ENTITIES:
            raise UserError(
                f"model.encoder path: {num_entities:,} entities are more than the "
                f"{_MOST_ENTITIES:,} that it can tell apart; choose lookup"
            )
        self.num_entities, self.num_relations = num_entities, num_relations
        self.dim, self.options = dim, options
        self.layers = nn.ModuleList(
            BellmanFordLayer(dim, 2 * num_relations, options.aggregation, options.by_query, dtype)
            for _ in range(options.layers)
        )
        self.of_state = nn.Parameter(torch.zeros(dim, 2 * dim, dtype=dtype))
        self.of_query = nn.Parameter(torch.zeros(dim, 2 * dim, dtype=dtype))
        self.shift = nn.Parameter(torch.zeros(2 * dim, dtype=dtype))
        self.last = nn.Parameter(torch.zeros(2 * dim, dtype=dtype))
        self.register_buffer("facts", torch.zeros(3, 0, dtype=torch.int32))
        self._whole: Any = None

    def _steps(self) -> list[BellmanFordLayer]:
        return [layer for layer in self.layers if isinstance(layer, BellmanFordLayer)]

    @property
    def bytes_per_entity(self) -> int:
        """Bytes of facts for each entity, rounded up: nothing else is kept of it."""
        return -(-self.facts.numel() * self.facts.element_size() // max(1, self.num_entities))

    def reset(
        self, score_function: ScoreFunction, scale: Optional[float], generator: torch.Generator
    ) -> None:
        """Fill the weights; ``scale`` is that of query vectors alone."""
        with torch.no_grad():
            for layer in self._steps():
                layer.reset(generator)
            for weight in (self.of_state, self.of_query):
                fill(weight, 2 * self.dim, generator)
            fill(self.last, 2 * self.dim, generator)
            self.shift.zero_()

    def attach(self, graph: Optional[Any]) -> None:
        """Take the train graph with inverse edges; see ``GraphEncoder.attach``."""
        super().attach(graph)
        if graph is not None:
            count = graph.num_edges() // 2
            head, tail = graph.edges(order="eid")
            facts = torch.stack([head, graph.edata["relation"], tail])[:, :count]
            self.facts = facts.to(self.facts.device, torch.int32)
            self._whole = None

    def take_sizes(self, tensors: Mapping[str, Tensor]) -> None:
        """See ``Encoder.take_sizes``: the file says how many facts there are."""
        found = tensors.get("facts")
        if found is None or found.dim() != 2 or len(found) != 3 or found.dtype != torch.int32:
            return  # what is wrong with it is said where shapes are compared
        limits = self.num_entities, self.num_relations, self.num_entities
        for what, ids, limit in zip(("head", "relation", "tail"), found, limits):
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < limit:
                raise UserError(
                    f"weight 'encoder.facts' has a {what} outside 0 to {limit - 1}; restore the "
                    "file"
                )
        self.facts = torch.zeros(found.shape, dtype=found.dtype, device=self.facts.device)
        self._whole = None

    def step_floats(self, queries: int, edges: int) -> int:
        """See ``Encoder.step_floats``."""
        each = queries if self.options.by_query else 1
        states = self.num_entities * queries * self.dim
        width = 16 if self.options.aggregation == "pna" else 5
        return self.options.layers * (edges * each * self.dim + width * states)

    def whole(self) -> Any:
        """Return the train graph with inverse edges, of the facts kept, on their device."""
        if self._whole is None or self._whole.device != self.facts.device:
            head, relation, tail = self.facts.long()
            self._whole = load_dgl().graph(
                (torch.cat([head, tail]), torch.cat([tail, head])), num_nodes=self.num_entities
            )
            self._whole.edata["relation"] = torch.cat([relation, relation + self.num_relations])
        return self._whole

    def without_answers(self, entity: Tensor, kind: Tensor) -> Any:
        """Return the train graph without the facts that answer some queries, nor their inverses.

        Args:
            entity: (b,) int64 known entities.
            kind: (b,) int64 relations, inverse ones from ``num_relations`` on.
        """
        whole = self.whole()
        source, target = whole.edges(order="eid")
        relation = whole.edata["relation"]
        kinds = 2 * self.num_relations
        own = torch.isin(source * kinds + relation, entity * kinds + kind)
        keep = ~(own | own.roll(len(own) // 2))
        if bool(keep.all()):
            return whole
        graph = load_dgl().graph((source[keep], target[keep]), num_nodes=self.num_entities)
        graph.edata["relation"] = relation[keep]
        return graph

    def scores(self, graph: Any, entity: Tensor, query: Tensor) -> Tensor:
        """Score every entity as the answer of each query.

        Args:
            graph: what messages pass along.
            entity: (b,) int64 known entities.
            query: (b, dim) vectors of the relations asked for.

        Returns:
            (b, num_entities).
        """
        asked = query @ self.of_query + self.shift
        limit = self.options.frontier
        if limit is not None:
            return self._best_first(graph, entity, query, asked, limit).T.contiguous()
        start = query.new_zeros(self.num_entities, len(entity), self.dim)
        number = torch.arange(len(entity), device=entity.device)
        start = start.index_put((entity, number), query)
        states, usual = start, usual_messages(graph, start.dtype)
        for layer in self._steps():
            edges = layer.edge_vectors(query).index_select(0, graph.edata["relation"])
            states = layer(graph, states, states, start, edges, usual)
        return self._judged(states, asked).T.contiguous()

    def _judged(self, states: Tensor, asked: Tensor) -> Tensor:
        """Return the scores (..., b) of states (..., b, dim), ``asked`` (b, 2 dim)."""
        made: Tensor = (states @ self.of_state + asked).relu() @ self.last
        return made

    def _best_first(
        self, graph: Any, entity: Tensor, query: Tensor, asked: Tensor, limit: int
    ) -> Tensor:
        """Return the scores (n, b) of all entities after the steps of a frontier of ``limit``.

        Entity v of query i is row v b + i. Who is not reached is never looked at: its state is 0.
        """
        count, nodes = len(entity), self.num_entities
        outgoing = tuple(part.long() for part in graph.adj_tensors("csr"))
        usual = usual_messages(graph, query.dtype)
        first = entity * count + torch.arange(count, device=entity.device)
        start = query.new_zeros(nodes * count, self.dim).index_copy(0, first, query)
        states = start
        scores = self._judged(torch.zeros_like(query), asked).repeat(nodes)
        scores = scores.index_copy(0, first, self._judged(query, asked))
        reached = torch.full_like(scores, -torch.inf, requires_grad=False)
        reached[first] = 0.0
        for layer in self._steps():
            able = (scores.detach() + reached).view(nodes, count)
            chosen = best_rows(able, limit)
            source, target, edge = edges_of(chosen, outgoing, count)
            if not len(edge):
                continue
            touched, place = torch.unique(target, return_inverse=True)
            block = load_dgl().create_block(
                (source, place), num_src_nodes=len(chosen), num_dst_nodes=len(touched)
            )
            table = layer.edge_vectors(query)
            row = graph.edata["relation"][edge] * table.shape[1]
            if table.shape[1] > 1:
                row = row + target % count
            edges = table.reshape(-1, self.dim).index_select(0, row)
            sent = states[chosen] * scores[chosen].sigmoid()[:, None]
            made = layer(block, sent, states[touched], start[touched], edges, usual)
            states = states.index_copy(0, touched, made)
            scores = scores.index_copy(0, touched, self._judged(made, asked[touched % count]))
            reached[touched] = 0.0
        return scores.view(nodes, count)

    def forward(
        self, nodes: Optional[Tensor] = None, blocks: Optional[Sequence[Any]] = None
    ) -> Tensor:
        """Return the ids (u, 1) of entities, as floats: states come with a query."""
        if nodes is None:
            nodes = torch.arange(self.num_entities, device=self.last.device)
        return nodes.to(self.last.dtype)[:, None]


def best_rows(scores: Tensor, limit: int) -> Tensor:
    """Return the flat rows of the ``limit`` best entities of each query, without those at -inf.

    Args:
        scores: (n, b).
        limit: entities per query.
    """
    found = scores.topk(min(limit, len(scores)), dim=0)
    rows = found.indices * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
    return rows[found.values > -torch.inf].sort().values


def edges_of(
    chosen: Tensor, outgoing: tuple[Tensor, ...], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the edges out of rows: sources as places in ``chosen``, target rows and edge ids.

    Args:
        chosen: (c,) rows.
        outgoing: the graph's CSR form: offsets, targets, edge ids.
        count: queries.

    Returns:
        (e,) int64 each.
    """
    offsets, targets, ids = outgoing
    node = chosen // count
    sizes = offsets[node + 1] - offsets[node]
    source = torch.arange(len(chosen), device=chosen.device).repeat_interleave(sizes)
    begins = offsets[node] - (sizes.cumsum(0) - sizes)
    place = begins[source] + torch.arange(len(source), device=chosen.device)
    return source, targets[place] * count + (chosen % count)[source], ids[place]
