"""Joining and leaving DGL's engine: who a process is, what its shared memory is called.

Every process of a job runs the same program; DGL tells the roles apart by environment variables.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as together

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.data.partitions import GRAPH_FILE, Partition
from dglke_distill.training.distributed.rows import teach_server

SHARED_MEMORY = Path("/dev/shm")
_COLLECTIVE_SECONDS = 3600
"""How long trainers wait for each other: one may be writing a checkpoint meanwhile."""


@dataclass(frozen=True)
class Job:
    """What all processes of a job have in common.

    Attributes:
        token: names the job; DGL's shared memory is named after it.
        addresses: IPv4 address and port of each machine's server, in the order of the parts.
        trainers: number of trainers on each machine.
        master: address and port where trainers find each other.
    """

    token: str
    addresses: tuple[tuple[str, int], ...]
    trainers: int
    master: tuple[str, int]

    @property
    def machines(self) -> int:
        """Number of machines."""
        return len(self.addresses)

    @property
    def world(self) -> int:
        """Number of all trainers."""
        return self.trainers * self.machines

    def prefix(self, machine: int) -> str:
        """Return what begins the names of a machine's shared memory."""
        return f"{self.token}m{machine}"

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold."""
        return asdict(self)

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Job:
        """Return what ``to_dict`` took."""
        (host, port), addresses = tree["master"], tree["addresses"]
        found = tuple((str(address), int(number)) for address, number in addresses)
        return cls(str(tree["token"]), found, int(tree["trainers"]), (str(host), int(port)))


@dataclass(frozen=True)
class Member:
    """A trainer among others.

    Attributes:
        job: what it is a part of.
        rank: its number, from 0 on; those of a machine follow each other.
        graph: DGL's view of the whole graph.
        policy: how rows of entities are dealt to machines.
    """

    job: Job
    rank: int
    graph: Any
    policy: Any

    @property
    def machine(self) -> int:
        """Number of its machine, and of the part that lies there."""
        return self.rank // self.job.trainers

    @property
    def leads(self) -> bool:
        """Whether it is the one that reads and writes files, and reports."""
        return self.rank == 0

    def share(self, ranges: tuple[tuple[int, int], ...]) -> tuple[int, int]:
        """Return the first and one past the last row of its machine's part that it works on."""
        first, last = ranges[self.machine]
        place, size = self.rank % self.job.trainers, last - first
        ends = [first + size * i // self.job.trainers for i in (place, place + 1)]
        return ends[0], ends[1]


def serve(job: Job, machine: int, partition: Partition, folder: Path) -> NoReturn:
    """Be the server of a machine until all trainers have left.

    Args:
        job: what all processes have in common.
        machine: which one.
        partition: what was cut.
        folder: for files that DGL reads.

    Raises:
        UserError: DGL cannot read the part.
    """
    _prepare(job, machine, partition, folder, DGL_ROLE="server", DGL_SERVER_ID=str(machine))
    dgl = load_dgl()
    teach_server(machine, partition.parts)
    try:
        dgl.distributed.initialize(os.environ["DGL_IP_CONFIG"])
    except dgl.DGLError as error:
        part = partition.directory / f"part{machine}"
        said = (str(error).strip().splitlines() or ["no reason"])[0]
        raise UserError(
            f"{part}: DGL's server cannot start with it ({said[:200]}); look whether its files are "
            "whole"
        ) from None
    sys.exit(0)


def join(job: Job, rank: int, partition: Partition, folder: Path) -> Member:
    """Become a trainer: returns when all of them have."""
    machine = rank // job.trainers
    _prepare(job, machine, partition, folder, DGL_ROLE="client", DGL_GROUP_ID="0")
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(job.world),
        LOCAL_RANK=str(rank % job.trainers),
        MASTER_ADDR=job.master[0],
        MASTER_PORT=str(job.master[1]),
    )
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)  # torchrun's, of another meeting
    dgl = load_dgl()
    # Order matters: DGL first, then torch's group, which DistEmbedding and its optimisers ask for.
    dgl.distributed.initialize(os.environ["DGL_IP_CONFIG"])
    together.init_process_group("gloo", timeout=timedelta(seconds=_COLLECTIVE_SECONDS))
    graph = dgl.distributed.DistGraph(job.prefix(machine))
    return Member(job, rank, graph, graph.get_node_partition_policy("_N"))


def leave(member: Member) -> None:
    """Leave together with all others; servers then end."""
    together.barrier()
    with redirect_stdout(io.StringIO()):
        load_dgl().distributed.exit_client()
    together.destroy_process_group()


def _prepare(job: Job, machine: int, partition: Partition, folder: Path, **role: str) -> None:
    """Set what DGL reads of the environment, and its files, before it starts."""
    hosts = folder / "ip_config.txt"
    lines = "".join(f"{address} {port}\n" for address, port in job.addresses)
    hosts.write_text(lines, encoding="utf-8")
    described = json.loads((partition.directory / GRAPH_FILE).read_text(encoding="utf-8"))
    described["graph_name"] = job.prefix(machine)
    for part in range(partition.parts):
        files = described[f"part-{part}"]
        for name, path in files.items():
            files[name] = str(partition.directory.absolute() / path)
    config = folder / f"graph-{machine}-{os.getpid()}.json"
    config.write_text(json.dumps(described), encoding="utf-8")
    os.environ.update(
        DGL_DIST_MODE="distributed",
        DGL_IP_CONFIG=str(hosts),
        DGL_CONF_PATH=str(config),
        # Pitfall: with further servers on a machine DGL's optimisers send gradients to trainers of
        # other machines, which write rows of theirs over the network, behind each other's back.
        DGL_NUM_SERVER="1",
        DGL_NUM_CLIENT=str(job.world),
        DGL_NUM_SAMPLER="0",
        DGL_GRAPH_FORMAT="coo,csc",
        **role,
    )
    _name_apart(job.prefix(machine), machine)


def _name_apart(prefix: str, machine: int) -> None:
    """Give this job's shared memory names of its own, and say which machine this is.

    Pitfalls: DGL names the memory of a table by the table alone, so that two jobs on a host, or two
    parts of one, would write to the same; and finds its machine by looking for its address among
    those of all servers, of which several may be on one host.
    """
    store: Any = import_module("dgl.distributed.kvstore")
    client: Any = import_module("dgl.distributed.rpc_client")
    plain = import_module("dgl._ffi.ndarray").empty_shared_mem

    def named(name: str, *given: Any) -> Any:
        return plain(f"{prefix}-{name}", *given)

    store.empty_shared_mem = named
    client.get_local_machine_id = lambda book: machine


def clean_up(job: Job, machine: int) -> None:
    """Remove what killed processes of a job have left in a machine's shared memory."""
    if not SHARED_MEMORY.is_dir():
        return
    begin = job.prefix(machine)
    for path in SHARED_MEMORY.iterdir():
        # Another machine's number may begin with this one's.
        if path.name.startswith(begin) and not path.name[len(begin) : len(begin) + 1].isdigit():
            with suppress(OSError):
                path.unlink()
