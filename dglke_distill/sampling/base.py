"""What every negative sampler does: decide sides, draw candidates, and serve DGL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import BaseModel
from dglke_distill.config import validate_options
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.graph import KnownAnswers, graph_triples
from dglke_distill.data.graph_ids import relation_ids
from dglke_distill.data.triples import SIDES, Side, Triples
from dglke_distill.kernels.random import stream_key
from dglke_distill.sampling.draw import Pools, draw, everything, redraw_known
from dglke_distill.sampling.turns import Turns

if TYPE_CHECKING:
    from dgl import DGLGraph

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Rows = Optional[Int64]
"""Positions within a batch; None stands for all of them, in order."""
Sharing = Literal["chunk", "private"]
Sides = Literal["alternate", "both"]

_CANDIDATES, _REDRAW, _PAIRS = range(3)


_DglNegativeSampler: Any = load_dgl().dataloading.negative_sampler._BaseNegativeSampler


class Pairs(NamedTuple):
    """Negative pairs in the graph's ids, each column (n,).

    ``positive`` is the place of the edge that a pair belongs to among the edges asked for.
    """

    source: Tensor
    target: Tensor
    positive: Tensor


class NegativeSampler(_DglNegativeSampler):  # type: ignore[misc]
    """Base of all samplers: one side of each positive is replaced by drawn entities.

    A subclass sets ``name``, may override ``prepare`` (where candidates come from), ``pool_of``
    and ``split`` (which side is replaced), and is listed in ``config.components``.

    Args:
        graph: the train graph, with ``edata["relation"]``.
        num_relations: number of relations; edges beyond are the inverses that
            ``build_graph(..., inverse=True)`` appends and are no positives. None: no inverses.
        count: candidates per positive and side.
        sharing: ``"private"`` draws them for each positive; ``"chunk"`` lets ``chunk_size``
            consecutive positives share them.
        chunk_size: positives per chunk, 0 for all. Chunks are equal, so where it does not divide
            the positives there are fewer and larger ones, see :meth:`chunks`.
        filtered: no negative may be a fact of ``graph``. Private candidates are redrawn; shared
            ones, and private ones where every possible candidate is an answer, are flagged.
            Unfiltered draws may even be the true answer.
        sides: ``"alternate"`` replaces one side per batch in turn, tails first; ``"both"`` each
            side of each positive. A sampler that chooses by itself ignores it.
        entity_type: int32 array of shape (E,), types of the entities, for ``typed``.
        seed: used when DGL calls the sampler; ``BatchLoader`` brings its own keys.
        options: the class's ``Options``, or a mapping of them.

    Raises:
        UserError: an unknown or wrong option.
        ValueError: the graph has no edges or no relation ids.
    """

    class Options(NoOptions):
        """The options of a sampler that has none."""

    name: ClassVar[str]

    def __init__(
        self,
        graph: DGLGraph,
        num_relations: Optional[int] = None,
        *,
        count: int = 256,
        sharing: Sharing = "chunk",
        chunk_size: int = 0,
        filtered: bool = False,
        sides: Sides = "alternate",
        entity_type: Optional[NDArray[np.int32]] = None,
        seed: int = 0,
        options: Union[BaseModel, Mapping[str, Any], None] = None,
    ) -> None:
        """Check the settings and compute what the draws need."""
        super().__init__()
        if count < 1 or chunk_size < 0:
            raise UserError("negatives.count must be at least 1 and negatives.chunk_size 0 or more")
        if sharing not in ("chunk", "private"):
            raise UserError(f"negatives.sharing is {sharing!r}: choose chunk or private")
        if sides not in ("alternate", "both"):
            raise UserError(f"negatives.sides is {sides!r}: choose alternate or both")
        if not isinstance(options, BaseModel):
            options = validate_options(
                self.Options, options or {}, f"negatives.options of {self.name}"
            )
        self.options: Any = options
        self.num_entities = int(graph.num_nodes())
        self.count, self.chunk_size, self.filtered = count, chunk_size, filtered
        self.sharing, self.sides, self.seed = sharing, sides, seed
        self._turns = Turns()
        triples = graph_triples(graph, num_relations)
        if not len(triples):
            raise ValueError("the graph has no edges to draw negatives for")
        self.num_relations = num_relations or int(triples.relation.max()) + 1
        self.known = KnownAnswers.build([triples], self.num_entities) if filtered else None
        self.pools: dict[Side, Pools] = dict.fromkeys(SIDES, everything(self.num_entities))
        self.prepare(triples, entity_type)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, so that DGL's loaders draw it anew and it can be repeated.

        Draws then depend on the seed, the epoch and a batch's edges alone, whatever the number of
        workers and whatever was drawn before. Without it epochs differ too, but to repeat the
        fifth the four before must have been drawn.

        Args:
            epoch: from 0 on. Call it before the loader is gone through; persistent workers that
                were forked hear of it too.

        Raises:
            UserError: it is negative.
        """
        if epoch < 0:
            raise UserError(f"epoch is {epoch}: epochs count from 0")
        self._turns.set_epoch(epoch)

    def prepare(self, triples: Triples, entity_type: Optional[NDArray[np.int32]]) -> None:
        """Set ``self.pools`` where candidates are not drawn uniformly from all entities."""

    def pool_of(self, side: Side, relation: Int64, answer: Int64) -> Int64:
        """Return the pool of each positive, int64 (b,); all zeros where there is but one."""
        return np.zeros(len(relation), np.int64)

    def split(
        self, head: Int64, relation: Int64, tail: Int64, turn: int, key: np.uint64
    ) -> list[tuple[Side, Rows]]:
        """Decide which side of which positives is replaced.

        Args:
            head: int64 (b,).
            relation: int64 (b,).
            tail: int64 (b,).
            turn: number of the batch, over all epochs.
            key: stream key.

        Returns:
            Groups of positives. Each is asked one side; chunks do not cross groups.
        """
        if self.sides == "alternate":
            return [("tail" if turn % 2 == 0 else "head", None)]
        return [("tail", None), ("head", None)]

    def chunks(self, size: int) -> int:
        """Return how many rows of candidates ``size`` positives share; it divides ``size``.

        With chunks it is the largest divisor not above ``size // chunk_size``: where the chunk
        size does not fit, chunks grow, so the number of candidates never does.
        """
        if self.sharing == "private":
            return size
        most = max(1, size // self.chunk_size) if self.chunk_size else 1
        return next(c for c in range(most, 0, -1) if size % c == 0)

    def draw(
        self, side: Side, entity: Int64, relation: Int64, answer: Int64, key: np.uint64
    ) -> tuple[Int64, Optional[Bool]]:
        """Draw candidates for one group of positives.

        Args:
            side: the side that is replaced.
            entity: int64 (b,), the entity that stays, b > 0.
            relation: int64 (b,).
            answer: int64 (b,), the entity that is replaced.
            key: stream key.

        Returns:
            ``candidates`` int64 (c, n), entity ids, c from :meth:`chunks`; and ``known`` bool
            (b, n), which of them are facts, or None when not filtered or when none is one.
        """
        chunks = self.chunks(len(entity))
        pool = self.pool_of(side, relation[:chunks], answer[:chunks])
        candidates = draw(stream_key(int(key), _CANDIDATES), self.pools[side], pool, self.count)
        if self.known is None:
            return candidates, None
        if self.sharing == "private":
            known = self._redraw(side, entity, relation, answer, candidates, key)
        else:
            known = self.known.contains(entity, relation, candidates, side)
        return candidates, known if known.any() else None

    def _redraw(
        self, side: Side, entity: Int64, relation: Int64, answer: Int64, candidates: Int64,
        key: np.uint64,
    ) -> Bool:  # fmt: skip
        assert self.known is not None
        return redraw_known(
            stream_key(int(key), _REDRAW), self.pools[side], self.pool_of(side, relation, answer),
            self.known, side, entity, relation, candidates,
        )  # fmt: skip

    def _generate(
        self, g: DGLGraph, eids: Tensor, canonical_etype: tuple[str, str, str]
    ) -> tuple[Tensor, Tensor]:
        """Return negative pairs (src, dst) for DGL, grouped by positive in the order of ``eids``.

        There are ``count`` per positive; with ``sides="both"`` ``count`` with the tail replaced,
        then ``count`` with the head replaced. With ``filtered``, pairs that cannot be anything
        but facts are left out (DGL's own ``GlobalUniform`` also may return fewer). The sampler
        counts its calls, and the worker processes that it is copied into: an epoch does not repeat
        another, and a new instance repeats them all. See ``set_epoch``.
        """
        pairs = self.draw_pairs(g, eids)
        return pairs.source, pairs.target

    def draw_pairs(self, g: DGLGraph, eids: Tensor) -> Pairs:
        """Return negative pairs and whose they are; the pairs are those that DGL is given.

        Args:
            g: the graph, with ``edata["relation"]``.
            eids: (b,) ids of the positives' edges.

        Raises:
            ValueError: the graph is another one, states no relation ids, or an edge is an inverse.
        """
        relations = relation_ids(g)
        if g.num_nodes() != self.num_entities:
            raise ValueError(
                f"the sampler draws from {self.num_entities} entities, the graph has "
                f"{g.num_nodes()} nodes: give the sampler the graph that is sampled"
            )
        head, tail = (ends.cpu().numpy().astype(np.int64) for ends in g.find_edges(eids))
        relation = relations[eids.long()].cpu().numpy().astype(np.int64)
        if len(relation) and relation.max() >= self.num_relations:
            raise ValueError("an inverse edge is no positive: pass edges below num_relations")
        turn, place = self._turns.next(eids)
        key = stream_key(self.seed, _PAIRS, *place)
        groups = self.split(head, relation, tail, turn, key)
        width = self.count * (2 if self.sides == "both" else 1)
        source = np.repeat(head, width).reshape(-1, width)
        target = np.repeat(tail, width).reshape(-1, width)
        keep = np.ones(source.shape, np.bool_)
        for number, (side, rows) in enumerate(groups):
            where = np.arange(len(head)) if rows is None else rows
            if not len(where):
                continue
            columns = slice(width - self.count, width) if side == "head" else slice(0, self.count)
            entity, answer = (head, tail) if side == "tail" else (tail, head)
            entity, given, answer = entity[where], relation[where], answer[where]
            group_key = stream_key(int(key), number)
            candidates, known = self.draw(side, entity, given, answer, group_key)
            candidates = np.repeat(candidates, len(where) // len(candidates), axis=0)
            if known is not None:  # a pair is private, whoever shared the draw
                known = self._redraw(side, entity, given, answer, candidates, group_key)
                keep[where, columns] = ~known
            (target if side == "tail" else source)[where, columns] = candidates
        positive = np.repeat(np.arange(len(head)), width).reshape(-1, width)
        return Pairs(*(torch.from_numpy(x[keep]).to(eids) for x in (source, target, positive)))
