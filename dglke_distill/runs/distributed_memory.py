"""How much memory each host of a training by many will take, said before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.data.partitions import Partition
from dglke_distill.training.distributed.rows import relation_bytes, relations_are_dealt

_PROCESS = 450 << 20
"""A process of the program with torch, dgl and compiled kernels."""
_STATES = {"adagrad": 1.0, "adam": 2.0, "rowwise_adagrad": 0.0}
"""Tables that an optimiser keeps, by the size of the table that it moves."""


@dataclass(frozen=True)
class DistributedNeed:
    """Bytes that the hosts need.

    Attributes:
        shared: of each host, in /dev/shm: its part of graph, tables and optimiser state.
        host: of each host, all its processes together, shared memory included.
        first: what the first host needs besides, to collect the table for a checkpoint.
    """

    shared: tuple[int, ...]
    host: tuple[int, ...]
    first: int

    def of(self, machine: int) -> int:
        """Return what all processes of a host need together."""
        return self.host[machine] + (self.first if machine == 0 else 0)

    def lines(self, text: Callable[[float], str]) -> list[str]:
        """Return what the user is told.

        Args:
            text: writes a number of bytes.
        """
        return [
            f"needs about {text(max(self.host))} of memory on each host, of which "
            f"{text(max(self.shared))} in /dev/shm; on the first one {text(self.first)} more for "
            "checkpoints"
        ]


def check_host_memory(needed: int, what: str) -> None:
    """Refuse what does not fit this host.

    Args:
        needed: bytes of all its processes together.
        what: needs them, for the message.

    Raises:
        UserError: it has less memory available.
    """
    limit = runtime.available_memory_bytes()
    if needed > limit:
        raise UserError(
            f"{what} needs about {needed >> 20:,} MiB of memory, and {limit >> 20:,} MiB are "
            "available; make the model smaller (model.dim, training.batch_size, optimizer.name "
            "rowwise_adagrad), start fewer trainers, or cut the data into more parts for more hosts"
        )


def distributed_need(
    config: Config, partition: Partition, trainers: int, teacher: int = 0
) -> DistributedNeed:
    """Estimate what each host needs.

    Args:
        config: the settings.
        partition: what was cut.
        trainers: of each host.
        teacher: floats per entity of a student's teacher.
    """
    floats = config.model.dim + config.model.entity_bias
    table = 4 * floats
    asked = 4 * teacher
    kept = asked + table + round(table * _STATES.get(config.optimizer.name.lower(), 2.0)) + 4
    entities, facts = sum(partition.entities), sum(partition.facts)
    # The same factor of an optimiser's state for relations as for entities.
    relations = relation_bytes(config.model, partition.relations)
    rows = partition.relations * (1 + config.model.reciprocal)
    dealt = relations_are_dealt(relations, rows, partition.parts)
    learned = round(relations * (1 + _STATES.get(config.optimizer.name.lower(), 2.0)))
    shared = tuple(
        # Facts with one end elsewhere bring that end along; a graph in two formats.
        kept * own + 120 * edges + 40 * own + dealt * learned // partition.parts
        for own, edges in zip(partition.entities, partition.facts)
    )
    filtered = config.negatives.filtered or config.negatives.sampler.lower() != "uniform"
    wide = 2 * config.training.batch_size + config.negatives.count
    process = _PROCESS + 12 * facts + 16 * entities + (56 * facts if filtered else 0)
    process += 8 * wide * (table + asked) + (config.evaluation.query_block_megabytes << 20)
    # Of relations that each trainer has: gradients twice, and their mean.
    process += (not dealt) * (learned + 3 * relations)
    process += 32 * facts + 16 * entities  # known answers, when it is ranked
    own = max(partition.entities) * table // trainers + 60 * max(partition.facts) // trainers
    host = tuple(each + _PROCESS + trainers * (process + own) for each in shared)
    first = entities * (table + kept + asked) + 130 * entities + relations + learned
    return DistributedNeed(shared, host, first)
