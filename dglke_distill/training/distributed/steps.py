"""Steps that all trainers take together, each with facts of its own part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.distributed as together

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.data.graph import build_graph
from dglke_distill.data.partitions import Partition
from dglke_distill.data.triples import Dataset, Triples
from dglke_distill.sampling.batch import BatchLoader
from dglke_distill.sampling.draw import Pools
from dglke_distill.sampling.negatives import NegativeSampler, configured_sampler
from dglke_distill.sampling.order import subsampling_weights
from dglke_distill.training.distributed.engine import Member
from dglke_distill.training.loop import Steps, Stride, take_steps

Drawn = Literal["joint", "local"]
"""Where negatives come from: all entities, or those of the trainer's own machine (DGL-KE)."""

ROUND = 8
"""Steps after which trainers tell each other how it goes."""
_OWN_STREAM = 7919


def renumbered(triples: Triples, ids: torch.Tensor) -> Triples:
    """Return triples with other ids of the entities.

    Args:
        triples: n facts.
        ids: the new id of each entity, int64 (entities,).
    """
    new = ids.numpy().astype(np.int32)
    return Triples(new[triples.head], triples.relation, new[triples.tail])


def distributed_loader(
    config: Config, member: Member, partition: Partition, dataset: Dataset, drawn: Drawn
) -> BatchLoader:
    """Return a trainer's batches: facts that lie on its machine, negatives as settings say.

    Facts are dealt evenly, so that each trainer takes as many steps; where one has a fact less, it
    visits one twice.

    Args:
        config: the settings.
        member: the trainer.
        partition: what was cut.
        dataset: the same, whole, with its own ids.
        drawn: see ``Drawn``.

    Raises:
        UserError: settings that do not go together.
    """
    graph, training = member.graph, config.training
    everything = torch.ones(graph.num_edges(), dtype=torch.bool)
    split = load_dgl().distributed.edge_split
    edges = split(everything, graph.get_partition_book(), rank=member.rank, force_even=True)
    most = torch.tensor([len(edges)])
    together.all_reduce(most, together.ReduceOp.MAX)
    if not len(edges):
        raise UserError(f"trainer {member.rank} has no fact to learn from; use fewer trainers")
    edges = torch.cat([edges, edges[: int(most) - len(edges)]])
    head, tail = graph.find_edges(edges)
    relation, fact = graph.edata["relation"][edges], graph.edata["fact"][edges]
    columns = (ids.numpy().astype(np.int32) for ids in (head, relation, tail))
    own = build_graph(Triples(*columns), graph.num_nodes(), num_relations=dataset.num_relations)
    whole = own
    if config.negatives.filtered or config.negatives.sampler.lower() != "uniform":
        facts = renumbered(dataset.train, partition.dgl_ids())
        whole = build_graph(facts, graph.num_nodes(), num_relations=dataset.num_relations)
    weights, rows = None, fact.numpy()
    if dataset.train_weight is not None:
        weights = dataset.train_weight[rows]
    if training.subsampling:  # counted over all facts, not over this trainer's
        counted = subsampling_weights(dataset.train)[rows]
        weights = counted if weights is None else weights * counted
    return BatchLoader(
        own,
        dataset.num_relations,
        batch_size=training.batch_size,
        sampler=_sampler(config, member, partition, dataset, whole, drawn),
        seed=training.seed + _OWN_STREAM * member.rank,
        weights=weights,
        weighting=training.weighting or "loss",
    )


def _sampler(
    config: Config, member: Member, partition: Partition, dataset: Dataset, graph: Any, drawn: Drawn
) -> NegativeSampler:
    negatives, kinds = config.negatives, dataset.entity_type
    sampler = configured_sampler(
        negatives,
        graph,
        dataset.num_relations,
        entity_type=None if kinds is None else kinds[partition.own_ids.numpy()],
        seed=config.training.seed,
    )
    if drawn == "local":
        first, last = partition.entity_ranges[member.machine]
        sampler.pools = {
            side: _within(pools, first, last, negatives.sampler)
            for side, pools in sampler.pools.items()
        }
    return sampler


def _within(pools: Pools, first: int, last: int, name: str) -> Pools:
    """Return pools without the entities of other machines; one that has no other stays whole."""
    if len(pools.probability):
        raise UserError(
            f"--negatives-from local: negatives.sampler {name} draws by weight from all entities; "
            "choose joint, or negatives.sampler uniform"
        )
    if not len(pools.entities):
        ids = np.arange(first, last, dtype=np.int32)
        return pools._replace(offsets=np.array([0, len(ids)], np.int64), entities=ids)
    kept = []
    for start, stop in zip(pools.offsets[:-1], pools.offsets[1:]):
        pool = pools.entities[start:stop]
        here = pool[(pool >= first) & (pool < last)]
        kept.append(here if len(here) else pool)
    offsets = np.append(0, np.cumsum([len(pool) for pool in kept])).astype(np.int64)
    return pools._replace(offsets=offsets, entities=np.concatenate(kept))


def distributed_steps(given: Sequence[Any], batches: int) -> Steps:
    """Return what takes the steps of ``train``, with the sums of all trainers.

    Args:
        given: the arguments of ``take_steps`` up to the epoch.
        batches: of an epoch.
    """

    def steps(epoch: int, start: int) -> Iterator[Stride]:
        while start < batches:
            stop = min(start + ROUND, batches)
            taken = list(cast(Any, take_steps)(*given, epoch, start, stop))
            parts: dict[str, float] = {}
            for stride in taken:
                for name, value in stride.parts.items():
                    parts[name] = parts.get(name, 0.0) + value
            own = [float(sum(s.triples for s in taken)), sum(s.loss for s in taken)]
            sums = torch.tensor([*own, *parts.values()], dtype=torch.float64)
            together.all_reduce(sums)
            triples, loss, *rest = sums.tolist()
            world = together.get_world_size()
            means = {name: value / world for name, value in zip(parts, rest)}
            yield Stride(stop - start, round(triples), loss / world, means)
            start = stop

    return steps


def agree(stop: bool, save: bool) -> tuple[bool, bool]:
    """Return whether any trainer was asked to stop, and whether the first one wants to save."""
    asked = torch.tensor([float(stop), float(save and together.get_rank() == 0)])
    together.all_reduce(asked, together.ReduceOp.MAX)
    return bool(asked[0]), bool(asked[1])
